package odata

// ParseInstant reads a time as RFC 3339 writes it, with T and Z in either case and any number of digits
// after the second, and returns it in microseconds since 1970, what is finer cut off. It is what
// DateTimeOffset values are compared by, everywhere.
func ParseInstant(text string) (micros int64, ok bool) {
	const shortest = len("2006-01-02T15:04:05Z")
	if len(text) < shortest || text[10]|0x20 != 't' || text[13] != ':' || text[16] != ':' {
		return 0, false
	}
	days, ok1 := daysOf(text[:10])
	hour, ok2 := twoDigits(text[11:], 23)
	minute, ok3 := twoDigits(text[14:], 59)
	second, ok4 := twoDigits(text[17:], 59)
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return 0, false
	}
	text = text[19:]
	var fraction int64
	if text[0] == '.' {
		i, unit := 1, int64(100_000)
		for ; i < len(text) && text[i] >= '0' && text[i] <= '9'; i++ {
			fraction += int64(text[i]-'0') * unit
			unit /= 10
		}
		if i == 1 || i == len(text) {
			return 0, false
		}
		text = text[i:]
	}
	offset, ok := zone(text)
	seconds := days*86400 + hour*3600 + minute*60 + second - offset
	return seconds*1e6 + fraction, ok
}

// zone reads Z or +02:00 as seconds.
func zone(text string) (int64, bool) {
	if len(text) == 1 {
		return 0, text[0]|0x20 == 'z'
	}
	if len(text) != len("+02:00") || text[0] != '+' && text[0] != '-' || text[3] != ':' {
		return 0, false
	}
	hour, ok1 := twoDigits(text[1:], 23)
	minute, ok2 := twoDigits(text[4:], 59)
	offset := hour*3600 + minute*60
	if text[0] == '-' {
		offset = -offset
	}
	return offset, ok1 && ok2
}

// momentOf reads a time, or a date as the midnight UTC with which it begins.
func momentOf(text string) (micros int64, ok bool) {
	if len(text) != 10 {
		return ParseInstant(text)
	}
	days, ok := daysOf(text)
	return days * 86400e6, ok
}

// isDate says whether the text is a day of the calendar: 2026-02-28.
func isDate(text string) bool {
	if len(text) != 10 {
		return false
	}
	_, ok := daysOf(text)
	return ok
}

// daysOf reads a date as days since 1970.
func daysOf(text string) (int64, bool) {
	century, ok1 := twoDigits(text, 99)
	year, ok2 := twoDigits(text[2:], 99)
	month, ok3 := twoDigits(text[5:], 12)
	day, ok4 := twoDigits(text[8:], 31)
	year += century * 100
	if !ok1 || !ok2 || !ok3 || !ok4 || text[4] != '-' || text[7] != '-' || month < 1 || day < 1 || day > daysIn(year, month) {
		return 0, false
	}
	// Days of the civil calendar, counted in years that begin in March.
	if month <= 2 {
		year--
		month += 12
	}
	year += 400 // no negative numbers below: 400 years are 146,097 days
	return year*365 + year/4 - year/100 + year/400 + (153*(month-3)+2)/5 + day - 1 - 719468 - 146097, true
}

func daysIn(year, month int64) int64 {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// twoDigits reads two digits at the start of text, up to limit.
func twoDigits(text string, limit int64) (int64, bool) {
	a, b := text[0]-'0', text[1]-'0'
	n := int64(a)*10 + int64(b)
	return n, a <= 9 && b <= 9 && n <= limit
}

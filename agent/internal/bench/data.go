package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/resosync/resosync/entityevent"
)

const remarks = "Light-filled home on a quiet street close to schools, parks and transit. Updated kitchen with stone counters, " +
	"new roof and windows, hardwood floors throughout, a fenced garden with mature trees and a two-car garage. "

// key is the key of the nth record, in no particular order, as UUIDs are.
func key(n int) string {
	return fmt.Sprintf("%08x-0000-7000-8000-%012d", uint32(n)*2654435761, n)
}

// body is a listing of about 1.4 KB; another rev is other content.
func body(n, rev int) []byte {
	return fmt.Appendf(nil, `{"ListingKey":"%s","ListingId":"A%d","ListPrice":%d,"OriginalListPrice":%d,"StandardStatus":"Active","PropertyType":"Residential",`+
		`"PropertySubType":"Single Family Residence","StreetNumber":"%d","StreetName":"Maple","StreetSuffix":"Avenue","City":"Springfield","StateOrProvince":"IL",`+
		`"PostalCode":"6270%d","Country":"US","Latitude":39.%06d,"Longitude":-89.%06d,"BedroomsTotal":4,"BathroomsTotalInteger":3,"LivingArea":%d.5,"LotSizeSquareFeet":%d,`+
		`"YearBuilt":1987,"ListAgentKey":"M%d","ListOfficeKey":"O%d","InteriorFeatures":["Fireplace","Walk-In Closet(s)","Kitchen Island"],"PublicRemarks":"%s",`+
		`"ModificationTimestamp":"2026-01-02T03:04:05.%06dZ"}`,
		key(n), n, 300000+rev, 310000, n%9000+1, n%10, n%1000000, n%1000000, 1500+n%2000, 6000+n%4000, n%500, n%50, strings.Repeat(remarks, 3)[:560], rev%1000000)
}

// fill writes records 0…n−1, and then changes them over and over until the log has the given number of events.
func fill(ctx context.Context, log entityevent.Log, n, events int, content func(n, rev int) []byte) error {
	for made := 0; made < events; {
		c := entityevent.Commit{Feed: entityevent.Local}
		for range min(1000, events-made) {
			i := made % n
			c.Changes = append(c.Changes, entityevent.Change{Ref: entityevent.Ref{Resource: "Property", Key: key(i)}, Op: entityevent.Put, Body: content(i, made/n)})
			made++
		}
		if _, err := log.Apply(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

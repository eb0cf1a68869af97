package metadata_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/resosync/resosync/entityevent/metadata"
)

const typed = `<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx"><edmx:DataServices>
<Schema Namespace="a.enums" xmlns="http://docs.oasis-open.org/odata/ns/edm">
 <EnumType Name="Status"><Member Name="Active"/><Member Name="Closed"/></EnumType>
 <EnumType Name="Days" IsFlags="true"><Member Name="Mon"/><Member Name="Tue"/></EnumType>
</Schema>
<Schema Namespace="a" xmlns="http://docs.oasis-open.org/odata/ns/edm">
 <TypeDefinition Name="Money" UnderlyingType="Edm.Decimal" Precision="5" Scale="2"/>
 <TypeDefinition Name="Short" UnderlyingType="Edm.String" MaxLength="3"/>
 <ComplexType Name="Place"><Property Name="City" Type="a.Short"/><Property Name="Streets" Type="Collection(Edm.String)" Nullable="false"/></ComplexType>
 <ComplexType Name="Corner" BaseType="a.Place"><Property Name="Number" Type="Edm.Byte" Nullable="false"/></ComplexType>
 <ComplexType Name="Anything" OpenType="true"/>
 <EntityType Name="Base" Abstract="true"><Property Name="Inherited" Type="Edm.Boolean"/></EntityType>
 <EntityType Name="Thing" BaseType="a.Base"><Key><PropertyRef Name="ThingKey"/></Key>
  <Property Name="ThingKey" Type="Edm.String" MaxLength="10" Nullable="false"/>
  <Property Name="Needed" Type="Edm.Int16" Nullable="false"/>
  <Property Name="Defaulted" Type="Edm.Int16" Nullable="false" DefaultValue="1"/>
  <Property Name="Text" Type="a.Short"/><Property Name="Long" Type="Edm.String" MaxLength="max"/>
  <Property Name="Yes" Type="Edm.Boolean"/><Property Name="Byte" Type="Edm.Byte"/><Property Name="SByte" Type="Edm.SByte"/>
  <Property Name="Int16" Type="Edm.Int16"/><Property Name="Int32" Type="Edm.Int32"/><Property Name="Int64" Type="Edm.Int64"/>
  <Property Name="Money" Type="a.Money"/><Property Name="Free" Type="Edm.Decimal"/><Property Name="Digits" Type="Edm.Decimal" Precision="3"/>
  <Property Name="Double" Type="Edm.Double"/><Property Name="Single" Type="Edm.Single"/>
  <Property Name="Date" Type="Edm.Date"/><Property Name="At" Type="Edm.DateTimeOffset" Precision="27"/><Property Name="Time" Type="Edm.TimeOfDay"/>
  <Property Name="Length" Type="Edm.Duration"/><Property Name="Guid" Type="Edm.Guid"/><Property Name="Bytes" Type="Edm.Binary"/>
  <Property Name="Any" Type="Edm.Untyped"/><Property Name="Where" Type="Edm.GeographyPoint"/>
  <Property Name="Status" Type="a.enums.Status"/><Property Name="Days" Type="a.enums.Days"/><Property Name="Statuses" Type="Collection(a.enums.Status)" Nullable="false"/>
  <Property Name="Texts" Type="Collection(a.Short)"/><Property Name="Place" Type="a.Corner"/><Property Name="Places" Type="Collection(a.Place)"/><Property Name="Other" Type="a.Anything"/>
  <Property Name="ListPrice" Type="Edm.Decimal"/><Property Name="PhotosCount" Type="Edm.Int32"/><Property Name="LivingArea" Type="Edm.Decimal"/>
  <Property Name="Longitude" Type="Edm.Decimal"/><Property Name="PriceChange" Type="Edm.Decimal"/>
  <NavigationProperty Name="Media" Type="Collection(a.Thing)"/>
 </EntityType>
 <EntityType Name="Open" OpenType="true"><Key><PropertyRef Name="K"/></Key><Property Name="K" Type="Edm.Int32"/></EntityType>
</Schema></edmx:DataServices></edmx:Edmx>`

func TestValidate(t *testing.T) {
	s := read(t, typed)
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	// A member and what is said about it; "": it is accepted.
	for _, c := range [][2]string{
		{`"Text":"äöü"`, ""}, {`"Text":"\u00e4bc"`, ""}, {`"Text":"abcd"`, "Text is a text of at most 3 characters (Edm.String)"},
		{`"Text":5`, "Text is a text of at most 3 characters (Edm.String)"}, {`"Text":null`, ""}, {`"Text":["a"]`, "Text is a text of at most 3 characters (Edm.String)"},
		{`"Long":"` + strings.Repeat("x", 5000) + `"`, ""}, {`"Long":true`, "Long is a text (Edm.String)"},
		{`"Yes":true`, ""}, {`"Yes":"true"`, "Yes is true or false (Edm.Boolean)"}, {`"Yes":1`, "Yes is true or false (Edm.Boolean)"},
		{`"Inherited":1`, "Inherited is true or false (Edm.Boolean)"},
		{`"Byte":255`, ""}, {`"Byte":256`, "Byte is a whole number from 0 to 255 (Edm.Byte)"}, {`"Byte":-1`, "Byte is a whole number from 0 to 255 (Edm.Byte)"},
		{`"SByte":-128`, ""}, {`"SByte":128`, "SByte is a whole number from -128 to 127 (Edm.SByte)"},
		{`"Int16":-32768`, ""}, {`"Int16":32768`, "Int16 is a whole number from -32768 to 32767 (Edm.Int16)"},
		{`"Int32":2147483647`, ""}, {`"Int32":2147483648`, "Int32 is a whole number from -2147483648 to 2147483647 (Edm.Int32)"},
		{`"Int64":9223372036854775807`, ""}, {`"Int64":9223372036854775808`, "Int64 is a whole number of at most 64 bits (Edm.Int64)"},
		{`"Int64":1.0`, "Int64 is a whole number of at most 64 bits (Edm.Int64)"}, {`"Int64":"1"`, "Int64 is a whole number of at most 64 bits (Edm.Int64)"},
		{`"Money":999.99`, ""}, {`"Money":-999.9900`, ""}, {`"Money":0.01`, ""}, {`"Money":1e2`, ""}, {`"Money":0`, ""}, {`"Money":12.3e-1`, ""},
		{`"Money":1000`, "Money is a number of at most 5 digits, 2 of them after the point (Edm.Decimal)"},
		{`"Money":1.005`, "Money is a number of at most 5 digits, 2 of them after the point (Edm.Decimal)"},
		{`"Money":1e3`, "Money is a number of at most 5 digits, 2 of them after the point (Edm.Decimal)"},
		{`"Money":1e-3`, "Money is a number of at most 5 digits, 2 of them after the point (Edm.Decimal)"},
		{`"Money":1e99999999999999999999`, "Money is a number of at most 5 digits, 2 of them after the point (Edm.Decimal)"},
		{`"Money":"1"`, "Money is a number of at most 5 digits, 2 of them after the point (Edm.Decimal)"},
		{`"Money":true`, "Money is a number of at most 5 digits, 2 of them after the point (Edm.Decimal)"},
		{`"Free":123456789012345678901234567890.123456789`, ""}, {`"Free":{}`, "Free is a number (Edm.Decimal)"},
		{`"Digits":0.123`, ""}, {`"Digits":1234`, "Digits is a number of at most 3 digits (Edm.Decimal)"},
		{`"Double":1.5e300`, ""}, {`"Double":"-INF"`, ""}, {`"Double":"NaN"`, ""}, {`"Double":1e999`, "Double is a number (Edm.Double)"}, {`"Double":"1"`, "Double is a number (Edm.Double)"},
		{`"Double":true`, "Double is a number (Edm.Double)"}, {`"Single":1e39`, "Single is a number (Edm.Single)"}, {`"Single":1.5`, ""},
		{`"Date":"2024-02-29"`, ""}, {`"Date":"2023-02-29"`, "Date is a date as 2026-01-31 (Edm.Date)"}, {`"Date":"2024-02-29T00:00:00Z"`, "Date is a date as 2026-01-31 (Edm.Date)"},
		{`"Date":20240229`, "Date is a date as 2026-01-31 (Edm.Date)"}, {`"Date":""`, "Date is a date as 2026-01-31 (Edm.Date)"},
		{`"At":"2024-02-29T23:59:59.123456789+02:00"`, ""}, {`"At":"2024-02-29T23:59:59"`, "At is a time as 2026-01-31T10:00:00Z (Edm.DateTimeOffset)"},
		{`"At":"2024-02-29"`, "At is a time as 2026-01-31T10:00:00Z (Edm.DateTimeOffset)"}, {`"At":"2024-02-29T24:00:00Z"`, "At is a time as 2026-01-31T10:00:00Z (Edm.DateTimeOffset)"},
		{`"Time":"23:59:59.5"`, ""}, {`"Time":"24:00:00"`, "Time is a time of day as 10:00:00 (Edm.TimeOfDay)"},
		{`"Length":"P1DT2H"`, ""}, {`"Length":"PT"`, "Length is a duration as PT1H30M (Edm.Duration)"}, {`"Length":"1h"`, "Length is a duration as PT1H30M (Edm.Duration)"},
		{`"Guid":"01234567-89ab-CDEF-0123-456789abcdef"`, ""}, {`"Guid":"0123456789abcdef0123456789abcdef"`, "Guid is a GUID (Edm.Guid)"},
		{`"Bytes":"AQ_-=="`, ""}, {`"Bytes":"a b"`, "Bytes is base64url (Edm.Binary)"},
		{`"Any":{"a":[1]}`, ""}, {`"Any":1`, ""}, {`"Where":{"type":"Point"}`, ""},
		{`"Status":"Active"`, ""}, {`"Status":"active"`, `Status is a member of a.Status, which has no "active"`}, {`"Status":1`, "Status is a text: a member of a.Status"},
		{`"Status":"Active,Closed"`, `Status is a member of a.Status, which has no "Active,Closed"`}, {`"Status":"Act\u0069ve"`, ""},
		{`"Days":"Mon,Tue"`, ""}, {`"Days":"Mon, Tue"`, ""}, {`"Days":"Mon,Sun"`, `Days is a member of a.Days, which has no "Sun"`}, {`"Days":["Mon"]`, "Days is a text: a member of a.Days"},
		{`"Statuses":[]`, ""}, {`"Statuses":["Active","Closed"]`, ""}, {`"Statuses":["Active","Sold"]`, `Statuses[1] is a member of a.Status, which has no "Sold"`},
		{`"Statuses":null`, "Statuses is a collection: write an array, [] for none"}, {`"Statuses":"Active"`, "Statuses is a collection: write an array, [] for none"},
		{`"Statuses":[null]`, "Statuses[0] cannot be null"}, {`"Texts":[null,"abc"]`, ""}, {`"Texts":["a","b","cdef"]`, "Texts[2] is a text of at most 3 characters (Edm.String)"},
		{`"Place":{"City":"abc","Streets":["x"],"Number":3}`, ""}, {`"Place":{"City":"abcd","Number":300}`, "Place/City is a text of at most 3 characters (Edm.String)"},
		{`"Place":{"City":"abc","Number":300}`, "Place/Number is a whole number from 0 to 255 (Edm.Byte)"}, {`"Place":{"Number":null}`, "Place/Number cannot be null"},
		{`"Place":"here"`, "Place is an object of the type Corner"}, {`"Place":{"Zip":1}`, "Place has no field Zip"}, {`"Place":{"Streets":[1]}`, "Place/Streets[0] is a text (Edm.String)"},
		{`"Places":[{"City":"abc"},{"City":1}]`, "Places[1]/City is a text of at most 3 characters (Edm.String)"}, {`"Other":{"a":1}`, ""},
		{`"ListPrice":-1`, "ListPrice is never negative"}, {`"ListPrice":-0.0`, ""}, {`"PhotosCount":-5`, "PhotosCount is never negative"},
		{`"LivingArea":-0.5e1`, "LivingArea is never negative"}, {`"Longitude":-89.4`, ""}, {`"PriceChange":-1000`, ""},
		{`"Wings":2`, "Thing has no field Wings"}, {`"text":"a"`, "Thing has no field text"}, {`"Text@odata.type":5,"@odata.id":"x"`, ""},
		{`"Wings@odata.type":"x"`, "Thing has no field Wings"}, {`"Wings@x.y":1`, "Thing has no field Wings"}, {`"Media@odata.count":1,"Place@x.y":1,"@x.y":1`, ""},
		{`"Place":{"City@x.y":1,"@odata.type":"x"}`, ""}, {`"Place":{"Zip@x.y":1}`, "Place has no field Zip"},
		{`"Media":[]`, "Media is a navigation: its records are written to their own resource"},
		{`"Media@odata.bind":["Thing('1')"]`, `"Media@odata.bind" is not offered: write the field that holds the key`},
		{`"ThingKey":5`, "ThingKey is a text of at most 10 characters (Edm.String)"}, {`"Needed":null`, "Needed cannot be null"},
	} {
		for what, validate := range map[string]func(string, []byte) ([]metadata.Fault, error){"whole": s.Validate, "change": s.ValidateChange} {
			body := "{" + c[0] + "}"
			if what == "whole" && !strings.Contains(c[0], "Needed") {
				body = `{"Needed":1,` + c[0] + "}"
			}
			faults, err := validate("Thing", []byte(body))
			var reasons []string
			for _, f := range faults {
				reasons = append(reasons, f.Reason)
				if !strings.Contains(c[0], `"`+f.Field) {
					t.Errorf("%s: the fault is of %s", c[0], f.Field)
				}
			}
			if got := strings.Join(reasons, "; "); err != nil || got != c[1] {
				t.Errorf("%.80s: %v %s, want %s", c[0], err, got, c[1])
			}
		}
	}

	faults, err := s.Validate("Thing", []byte(`{"Text":5,"Yes":5,"Int64":5,"Wings":5}`))
	want := []metadata.Fault{
		{Field: "Text", Reason: "Text is a text of at most 3 characters (Edm.String)"}, {Field: "Yes", Reason: "Yes is true or false (Edm.Boolean)"},
		{Field: "Wings", Reason: "Thing has no field Wings"}, {Field: "Needed", Reason: "Needed is missing, and cannot be null"},
	}
	if d := cmp.Diff(want, faults); d != "" || err != nil {
		t.Error(err, d)
	}
	if faults, err := s.Validate("Open", []byte(`{"K":1,"Dynamic":true,"Dynamic2@x.y":1}`)); len(faults) > 0 || err != nil {
		t.Errorf("an open type: %v %v", faults, err)
	}
	if _, err := s.Validate("Thing", []byte(`[]`)); err == nil {
		t.Error("an array is a record")
	}
}

func TestValidateInferred(t *testing.T) {
	s := &metadata.Schema{Namespace: metadata.Namespace}
	s.Infer("Property", []byte(`{"ListingKey":"1","ListPrice":1,"A":["a"]}`))
	for body, want := range map[string]string{
		`{"ListPrice":"much","A":5,"New":{},"B@x.y":1}`: "[]",
		`{"ListPrice":-1,"New":-1,"NewTotal":-2.5}`:     "[{ListPrice ListPrice is never negative} {NewTotal NewTotal is never negative}]",
		`{"Media@odata.bind":[]}`:                       `[{Media "Media@odata.bind" is not offered: write the field that holds the key}]`,
	} {
		faults, err := s.Validate("Property", []byte(body))
		if got := fmt.Sprint(faults); got != want || err != nil {
			t.Errorf("%s: %s %v", body, got, err)
		}
	}
}

// FuzzValidate: what is refused has a reason, and what is accepted can be read as what it is declared to be.
func FuzzValidate(f *testing.F) {
	s, err := metadata.Read(strings.NewReader(typed))
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		`{"Money":1.50e-1,"Digits":0}`, `{"Date":"2024-02-29","At":"2024-02-29T10:00:00Z","Guid":"x"}`, `{"Place":{"Number":1},"Places":[{}],"Statuses":["Active",null]}`,
		`{"Money":1E+400}`, `{"Text":"\ud83d\ude00x"}`, `{"Double":-0.0e-0,"Byte":5}`, `[]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		faults, err := s.ValidateChange("Thing", body)
		if err != nil {
			return
		}
		for _, fault := range faults {
			if fault.Reason == "" {
				t.Fatalf("%q: %s is wrong for no reason", body, fault.Field)
			}
		}
		if len(faults) > 0 || !utf8.Valid(body) {
			return
		}
		var thing struct {
			Text     *string
			Yes      *bool
			Byte     *uint8
			SByte    *int8
			Int16    *int16
			Int32    *int32
			Int64    *int64
			Money    *json.Number
			Statuses []string
			Place    *struct {
				City    *string
				Streets []string
				Number  *uint8
			}
		}
		d := json.NewDecoder(bytes.NewReader(body))
		if err := d.Decode(&thing); err != nil && !errors.As(err, new(*json.SyntaxError)) {
			t.Fatalf("%q is accepted: %v", body, err)
		}
		if thing.Text != nil && utf8.RuneCountInString(*thing.Text) > 3 {
			t.Fatalf("%q is accepted", body)
		}
		if thing.Money != nil {
			if amount, err := thing.Money.Float64(); err != nil || math.Abs(amount) > 999.995 {
				t.Fatalf("%q is accepted: %v %v", body, amount, err)
			}
		}
	})
}

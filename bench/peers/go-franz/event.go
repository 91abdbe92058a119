package main

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/goccy/go-json"
	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
)

// event is what clients send. Pointers tell an absent member from an empty one; data stays the bytes that came.
type event struct {
	ID      *string         `json:"id"`
	Source  *string         `json:"source"`
	Type    string          `json:"type"`
	Subject *string         `json:"subject"`
	Time    *string         `json:"time"`
	Data    json.RawMessage `json:"data"`
}

type fault struct {
	Pointer string `json:"pointer"`
	Detail  string `json:"detail"`
}

// parse reads one event or an array of them. single is true for one, whose faults have no index.
func parse(body []byte) (events []event, single bool, err error) {
	body = bytes.TrimLeft(body, " \t\r\n")
	if len(body) > 0 && body[0] == '[' {
		if err = json.Unmarshal(body, &events); err == nil && len(events) == 0 {
			err = errors.New("no events")
		}
		return events, false, err
	}
	events = make([]event, 1)
	return events, true, json.Unmarshal(body, &events[0])
}

// validate returns every fault of every event.
func validate(events []event, single bool) []fault {
	var faults []fault
	for i := range events {
		at := ""
		if !single {
			at = fmt.Sprintf("/%d", i)
		}
		one := &events[i]
		if one.Type == "" {
			faults = append(faults, fault{at + "/type", "must be a string that is not empty"})
		}
		if empty(one.ID) {
			faults = append(faults, fault{at + "/id", "must not be empty"})
		}
		if empty(one.Source) {
			faults = append(faults, fault{at + "/source", "must not be empty"})
		}
		if empty(one.Subject) {
			faults = append(faults, fault{at + "/subject", "must not be empty"})
		}
		if one.Time != nil {
			if _, err := time.Parse(time.RFC3339Nano, *one.Time); err != nil {
				faults = append(faults, fault{at + "/time", "must be an RFC 3339 timestamp"})
			}
		}
	}
	return faults
}

func empty(text *string) bool { return text != nil && *text == "" }

// complete fills in what was left out.
func complete(events []event) error {
	now := time.Now().UTC().Format("2006-01-02T15:04:05.000Z07:00")
	source := "urn:peer"
	for i := range events {
		one := &events[i]
		if one.ID == nil {
			made, err := uuid.NewV7()
			if err != nil {
				return err
			}
			id := made.String()
			one.ID = &id
		}
		if one.Source == nil {
			one.Source = &source
		}
		if one.Time == nil {
			one.Time = &now
		}
	}
	return nil
}

var (
	specVersion = kgo.RecordHeader{Key: "ce_specversion", Value: []byte("1.0")}
	contentType = kgo.RecordHeader{Key: "content-type", Value: []byte("application/json")}
)

// record is the event in the CloudEvents Kafka binding's binary mode.
func (one *event) record() *kgo.Record {
	record := &kgo.Record{
		Value: one.Data,
		Headers: []kgo.RecordHeader{
			specVersion,
			{Key: "ce_id", Value: []byte(*one.ID)},
			{Key: "ce_source", Value: []byte(*one.Source)},
			{Key: "ce_type", Value: []byte(one.Type)},
			{Key: "ce_time", Value: []byte(*one.Time)},
			contentType,
		},
	}
	if one.Subject != nil {
		record.Key = []byte(*one.Subject)
	}
	return record
}

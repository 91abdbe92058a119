// CloudEvents' SDK for Go as a sender and, through the receiver of its Kafka protocol, a reader: ../../clients-sdks.ts defines input and output.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/IBM/sarama"
	"github.com/cloudevents/sdk-go/protocol/kafka_sarama/v2"
	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
)

const requestTimeout = 20 * time.Second

type clientEvent struct {
	ID              string            `json:"id"`
	Source          string            `json:"source"`
	Type            string            `json:"type"`
	Subject         string            `json:"subject"`
	Time            string            `json:"time"`
	DataContentType string            `json:"datacontenttype,omitempty"`
	DataSchema      string            `json:"dataschema,omitempty"`
	Extensions      map[string]string `json:"extensions"`
	Data            *[]byte           `json:"data"`
}

type order struct {
	Mode   string        `json:"mode"`
	Events []clientEvent `json:"events"`
}

type record struct {
	Headers [][2]string `json:"headers"`
	Value   *[]byte     `json:"value"`
}

type sent struct {
	Status int    `json:"status,omitempty"`
	Body   string `json:"body,omitempty"`
	Error  string `json:"error,omitempty"`
}

func main() {
	var orders struct {
		URL     string   `json:"url"`
		Sends   []order  `json:"sends"`
		Records []record `json:"records"`
	}
	if err := json.NewDecoder(os.Stdin).Decode(&orders); err != nil {
		log.Fatal(err)
	}
	answers := struct {
		Sends   []sent `json:"sends"`
		Records []any  `json:"records"`
	}{[]sent{}, []any{}}
	client, err := cloudevents.NewClientHTTP(cloudevents.WithTarget(orders.URL))
	if err != nil {
		log.Fatal(err)
	}
	for _, one := range orders.Sends {
		answer, err := send(client, orders.URL, one)
		if err != nil {
			answer = sent{Error: err.Error()}
		}
		answers.Sends = append(answers.Sends, answer)
	}
	for _, one := range orders.Records {
		read, err := receive(one)
		if err != nil {
			answers.Records = append(answers.Records, map[string]string{"error": err.Error()})
		} else {
			answers.Records = append(answers.Records, read)
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		log.Fatal(err)
	}
}

func eventOf(given clientEvent) (event.Event, error) {
	made := cloudevents.NewEvent()
	made.SetID(given.ID)
	made.SetSource(given.Source)
	made.SetType(given.Type)
	made.SetSubject(given.Subject)
	at, err := time.Parse(time.RFC3339Nano, given.Time)
	if err != nil {
		return made, err
	}
	made.SetTime(at)
	if given.DataSchema != "" {
		made.SetDataSchema(given.DataSchema)
	}
	for name, value := range given.Extensions {
		made.SetExtension(name, value)
	}
	if given.Data == nil {
		return made, made.Validate()
	}
	var data any = *given.Data
	switch given.DataContentType {
	case "application/json":
		data = json.RawMessage(*given.Data)
	case "text/plain":
		data = string(*given.Data)
	}
	if err := made.SetData(given.DataContentType, data); err != nil {
		return made, err
	}
	return made, made.Validate()
}

func send(client cloudevents.Client, url string, given order) (sent, error) {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	var events []event.Event
	for _, one := range given.Events {
		made, err := eventOf(one)
		if err != nil {
			return sent{}, err
		}
		events = append(events, made)
	}
	if given.Mode == "batch" {
		request, err := cehttp.NewHTTPRequestFromEvents(ctx, url, events)
		if err != nil {
			return sent{}, err
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return sent{}, err
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		return sent{Status: answer.StatusCode, Body: string(body)}, err
	}
	mode := cloudevents.WithEncodingStructured
	if given.Mode == "binary" {
		mode = cloudevents.WithEncodingBinary
	}
	result := client.Send(mode(ctx), events[0])
	var answer *cehttp.Result
	if errors.As(result, &answer) {
		return sent{Status: answer.StatusCode, Body: result.Error()}, nil
	}
	return sent{}, fmt.Errorf("no answer: %w", result)
}

// A claim with one record, as a consumer group would pass to the receiver.
type claim struct {
	sarama.ConsumerGroupClaim
	messages chan *sarama.ConsumerMessage
}

func (one claim) Messages() <-chan *sarama.ConsumerMessage { return one.messages }

type session struct {
	sarama.ConsumerGroupSession
	ctx context.Context
}

func (one session) Context() context.Context                        { return one.ctx }
func (one session) MarkMessage(_ *sarama.ConsumerMessage, _ string) {}

func receive(given record) (clientEvent, error) {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	message := &sarama.ConsumerMessage{}
	if given.Value != nil {
		message.Value = *given.Value
	}
	for _, header := range given.Headers {
		var value []byte
		if err := json.Unmarshal([]byte(`"`+header[1]+`"`), &value); err != nil {
			return clientEvent{}, err
		}
		message.Headers = append(message.Headers, &sarama.RecordHeader{Key: []byte(header[0]), Value: value})
	}
	messages := make(chan *sarama.ConsumerMessage, 1)
	messages <- message
	close(messages)
	receiver := kafka_sarama.NewReceiver()
	go receiver.ConsumeClaim(session{ctx: ctx}, claim{messages: messages})
	received, err := receiver.Receive(ctx)
	if err != nil {
		return clientEvent{}, err
	}
	read, err := binding.ToEvent(ctx, received)
	if err != nil {
		return clientEvent{}, err
	}
	if err := errors.Join(read.Validate(), received.Finish(nil)); err != nil {
		return clientEvent{}, err
	}
	found := clientEvent{
		ID:              read.ID(),
		Source:          read.Source(),
		Type:            read.Type(),
		Subject:         read.Subject(),
		Time:            read.Time().Format(time.RFC3339Nano),
		DataContentType: read.DataContentType(),
		DataSchema:      read.DataSchema(),
		Extensions:      map[string]string{},
	}
	for name, value := range read.Extensions() {
		// The receiver adds its position as extensions.
		if name != "kafkatopic" && name != "kafkapartition" && name != "kafkaoffset" {
			found.Extensions[name] = fmt.Sprint(value)
		}
	}
	if data := read.Data(); data != nil {
		data = bytes.Clone(data)
		found.Data = &data
	}
	return found, nil
}

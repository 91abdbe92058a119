// An exactly-once drain with franz-go: records of TOPIC go to OUTPUT in transactions of a consumer group. Environment: KAFKA_BROKERS, TOPIC, OUTPUT,
// GROUP (of the consumer, and the transactional id), HANDLER ("on": each value is parsed, checked against a JSON schema and answered with a changed object). Runs until SIGTERM.
package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/goccy/go-json"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/twmb/franz-go/pkg/kgo"
)

const recordsAPoll = 5000

//go:embed order.schema.json
var orderSchema []byte

func main() {
	output := os.Getenv("OUTPUT")
	session, err := kgo.NewGroupTransactSession(
		kgo.SeedBrokers(strings.Split(os.Getenv("KAFKA_BROKERS"), ",")...),
		kgo.TransactionalID(os.Getenv("GROUP")),
		kgo.ConsumerGroup(os.Getenv("GROUP")),
		kgo.ConsumeTopics(os.Getenv("TOPIC")),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.RequireStableFetchOffsets(),
		kgo.DefaultProduceTopic(output),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close()
	answer := same
	if os.Getenv("HANDLER") == "on" {
		answer = handlerOf(compiled())
	}
	stopped, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	for stopped.Err() == nil {
		fetches := session.PollRecords(stopped, recordsAPoll)
		if stopped.Err() != nil {
			return
		}
		if err := fetches.Err(); err != nil {
			log.Fatal(err)
		}
		transact(session, fetches, answer)
	}
}

func transact(session *kgo.GroupTransactSession, fetches kgo.Fetches, answer func([]byte) ([]byte, error)) {
	background := context.Background()
	if err := session.Begin(); err != nil {
		log.Fatal(err)
	}
	failed := kgo.AbortingFirstErrPromise(session.Client())
	fetches.EachRecord(func(record *kgo.Record) {
		value, err := answer(record.Value)
		if err != nil {
			log.Fatal(err)
		}
		session.Produce(background, &kgo.Record{Key: record.Key, Value: value, Headers: record.Headers}, failed.Promise())
	})
	if _, err := session.End(background, failed.Err() == nil); err != nil && !errors.Is(err, context.Canceled) {
		log.Fatal(err)
	}
}

func same(value []byte) ([]byte, error) { return value, nil }

func handlerOf(schema *jsonschema.Schema) func([]byte) ([]byte, error) {
	return func(value []byte) ([]byte, error) {
		var order any
		if err := json.Unmarshal(value, &order); err != nil {
			return nil, err
		}
		if err := schema.Validate(order); err != nil {
			return nil, err
		}
		fields := order.(map[string]any)
		fields["total"] = fields["total"].(float64) * 1.19
		fields["priced"] = true
		return json.Marshal(fields)
	}
}

func compiled() *jsonschema.Schema {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(orderSchema))
	if err != nil {
		log.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("order.schema.json", document); err != nil {
		log.Fatal(err)
	}
	schema, err := compiler.Compile("order.schema.json")
	if err != nil {
		log.Fatal(err)
	}
	return schema
}

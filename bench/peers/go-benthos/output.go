package main

import (
	"context"
	"encoding/json"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	linger          = time.Millisecond
	deliveryTimeout = 10 * time.Second
	maxBuffered     = 100_000
)

func init() {
	spec := service.NewConfigSpec().
		Fields(
			service.NewStringListField("seed_brokers"),
			service.NewStringField("topic"),
			service.NewInterpolatedStringField("key").Default(""),
			service.NewMetadataFilterField("metadata"),
			service.NewOutputMaxInFlightField(),
		)
	service.MustRegisterBatchOutput("kafka_franz", spec,
		func(conf *service.ParsedConfig, _ *service.Resources) (service.BatchOutput, service.BatchPolicy, int, error) {
			made := &kafkaOutput{}
			var policy service.BatchPolicy
			var err error
			if made.brokers, err = conf.FieldStringList("seed_brokers"); err != nil {
				return nil, policy, 0, err
			}
			if made.topic, err = conf.FieldString("topic"); err != nil {
				return nil, policy, 0, err
			}
			if made.key, err = conf.FieldInterpolatedString("key"); err != nil {
				return nil, policy, 0, err
			}
			if made.metadata, err = conf.FieldMetadataFilter("metadata"); err != nil {
				return nil, policy, 0, err
			}
			maxInFlight, err := conf.FieldMaxInFlight()
			return made, policy, maxInFlight, err
		})
}

// kafkaOutput writes as Redpanda Connect's output of that name does, and answers with receipts, for which that one has nothing.
type kafkaOutput struct {
	brokers  []string
	topic    string
	key      *service.InterpolatedString
	metadata *service.MetadataFilter
	client   *kgo.Client
}

type receipt struct {
	ID        string `json:"id"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}

func (o *kafkaOutput) Connect(ctx context.Context) error {
	// Idempotent with acks from all in-sync replicas, as franz-go is unless it is told otherwise.
	client, err := kgo.NewClient(
		kgo.SeedBrokers(o.brokers...),
		kgo.DefaultProduceTopic(o.topic),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()),
		kgo.ProducerLinger(linger),
		kgo.RecordDeliveryTimeout(deliveryTimeout),
		// Else a record whose request was lost with its connection would be waited for without end; Kafka's other clients give it up as well.
		kgo.AllowIdempotentProduceCancellation(),
		kgo.MaxBufferedRecords(maxBuffered),
	)
	if err != nil {
		return err
	}
	if err := client.Ping(ctx); err != nil {
		client.Close()
		return err
	}
	o.client = client
	return nil
}

func (o *kafkaOutput) WriteBatch(ctx context.Context, batch service.MessageBatch) error {
	records := make([]*kgo.Record, len(batch))
	receipts := make([]receipt, len(batch))
	for i, message := range batch {
		record, err := o.record(message)
		if err != nil {
			return err
		}
		records[i] = record
		receipts[i].ID, _ = message.MetaGet("ce_id")
	}
	if err := o.client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return err
	}
	for i, record := range records {
		receipts[i].Partition, receipts[i].Offset = record.Partition, record.Offset
	}
	body, err := json.Marshal(map[string]any{"receipts": receipts})
	if err != nil {
		return err
	}
	answer := batch[0].Copy()
	answer.SetBytes(body)
	return answer.AddSyncResponse()
}

func (o *kafkaOutput) record(message *service.Message) (*kgo.Record, error) {
	record := &kgo.Record{}
	var err error
	if record.Value, err = message.AsBytes(); err != nil {
		return nil, err
	}
	key, err := o.key.TryBytes(message)
	if err != nil {
		return nil, err
	}
	if len(key) > 0 {
		record.Key = key
	}
	err = o.metadata.Walk(message, func(name, value string) error {
		record.Headers = append(record.Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
		return nil
	})
	return record, err
}

func (o *kafkaOutput) Close(ctx context.Context) error {
	if o.client == nil {
		return nil
	}
	defer o.client.Close()
	return o.client.Flush(ctx)
}

// The fastest plain peer: net/http and franz-go. Environment: PORT, KAFKA_BROKERS, TOPIC.
package main

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/goccy/go-json"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	linger          = time.Millisecond
	deliveryTimeout = 10 * time.Second
	stopTimeout     = 15 * time.Second
	maxBuffered     = 100_000
	maxBodyBytes    = 16 << 20
)

type receipt struct {
	ID        string `json:"id"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}

type service struct{ client *kgo.Client }

func main() {
	// Idempotent with acks from all in-sync replicas, as franz-go is unless it is told otherwise.
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(os.Getenv("KAFKA_BROKERS"), ",")...),
		kgo.DefaultProduceTopic(os.Getenv("TOPIC")),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()),
		kgo.ProducerLinger(linger),
		kgo.RecordDeliveryTimeout(deliveryTimeout),
		// Else a record whose request was lost with its connection would be waited for without end; Kafka's other clients give it up as well.
		kgo.AllowIdempotentProduceCancellation(),
		kgo.MaxBufferedRecords(maxBuffered),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	s := &service{client}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/events", s.post)
	mux.HandleFunc("GET /ready", s.ready)
	server := &http.Server{
		Addr:              net.JoinHostPort("127.0.0.1", os.Getenv("PORT")),
		Handler:           mux,
		ReadHeaderTimeout: 10 * time.Second,
	}

	stopping, release := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer release()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-stopping.Done()
		bounded, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		if err := errors.Join(server.Shutdown(bounded), client.Flush(bounded)); err != nil {
			log.Print(err)
		}
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	<-stopped
}

func (s *service) ready(w http.ResponseWriter, r *http.Request) {
	if err := s.client.Ping(r.Context()); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

func (s *service) post(w http.ResponseWriter, r *http.Request) {
	body, err := read(w, r)
	if err != nil {
		answer(w, http.StatusBadRequest, map[string]any{"error": err.Error()})
		return
	}
	events, single, err := parse(body)
	if err != nil {
		answer(w, http.StatusUnprocessableEntity, map[string]any{"faults": []fault{{"", err.Error()}}})
		return
	}
	if faults := validate(events, single); len(faults) > 0 {
		answer(w, http.StatusUnprocessableEntity, map[string]any{"faults": faults})
		return
	}
	if err := complete(events); err != nil {
		answer(w, http.StatusInternalServerError, map[string]any{"error": err.Error()})
		return
	}
	records := make([]*kgo.Record, len(events))
	for i := range events {
		records[i] = events[i].record()
	}
	// Not the request's context: a client that goes away must not fail records that others' batches hold.
	if err := s.client.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
		answer(w, http.StatusServiceUnavailable, map[string]any{"error": err.Error()})
		return
	}
	receipts := make([]receipt, len(records))
	for i, record := range records {
		receipts[i] = receipt{*events[i].ID, record.Partition, record.Offset}
	}
	answer(w, http.StatusAccepted, map[string]any{"receipts": receipts})
}

func read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	limited := http.MaxBytesReader(w, r.Body, maxBodyBytes)
	if r.ContentLength < 0 || r.ContentLength > maxBodyBytes {
		return io.ReadAll(limited)
	}
	body := make([]byte, r.ContentLength)
	_, err := io.ReadFull(limited, body)
	return body, err
}

func answer(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(text)
}

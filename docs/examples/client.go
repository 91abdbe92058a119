// Sends one event and prints its receipt. A retry sends the same id, so the event takes effect once.
// KAFKATRACE_URL: the producer's address; KAFKATRACE_KEY: the API key, with AUTH=on. Standard library only.
package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"
)

const (
	attempts = 5
	timeout  = 30 * time.Second
)

func env(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

// send returns status 0 if there is no answer: the event may or may not be stored.
func send(url string, body []byte) (status int, text string, wait time.Duration) {
	request, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return http.StatusBadRequest, err.Error(), 0
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+env("KAFKATRACE_KEY", "none"))
	client := http.Client{Timeout: timeout}
	answer, err := client.Do(request)
	if err != nil {
		return 0, err.Error(), time.Second
	}
	defer answer.Body.Close()
	read, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err.Error(), time.Second
	}
	seconds, err := strconv.Atoi(answer.Header.Get("Retry-After"))
	if err != nil {
		seconds = 1
	}
	return answer.StatusCode, string(read), time.Duration(seconds) * time.Second
}

func main() {
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	body, err := json.Marshal(map[string]any{
		"id":      fmt.Sprintf("%x", id),
		"source":  "/shop",
		"type":    "order.placed",
		"subject": "alice",
		"data":    map[string]any{"item": "pen", "count": 3},
	})
	if err != nil {
		panic(err)
	}
	url := env("KAFKATRACE_URL", "http://127.0.0.1:8080") + "/v1/events"
	for attempt := 1; ; attempt++ {
		status, text, wait := send(url, body)
		if status == http.StatusAccepted {
			fmt.Println(text)
			return
		}
		retry := status == 0 || status == http.StatusTooManyRequests || status >= http.StatusInternalServerError
		if !retry || attempt == attempts {
			fmt.Fprintln(os.Stderr, text)
			os.Exit(1)
		}
		time.Sleep(wait)
	}
}

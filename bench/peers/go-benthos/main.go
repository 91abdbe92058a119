// Benthos, the open core of Redpanda Connect, with its http_server input, its mappings and a franz-go output. Runs config.yaml; environment: PORT,
// KAFKA_BROKERS, TOPIC.
package main

import (
	"context"

	_ "github.com/redpanda-data/benthos/v4/public/components/io"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	"github.com/redpanda-data/benthos/v4/public/service"
)

func main() { service.RunCLI(context.Background()) }

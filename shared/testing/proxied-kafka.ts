import { type KafkaCluster, startKafka } from '../dev/brokers/kafka.ts'
import { findFreePorts, releasePorts } from '../dev/brokers/ports.ts'
import { type KafkaProxy, startKafkaProxy } from './kafka-proxy.ts'

export interface ProxiedKafka {
  kafka: KafkaCluster
  proxy: KafkaProxy
  /** `host:port` of the proxy. */
  brokers: string
  stop(): Promise<void>
}

/** Apache Kafka with one node, which everybody reaches through a proxy. */
export async function startProxiedKafka(settings: Readonly<Record<string, string>> = {}): Promise<ProxiedKafka> {
  const ports = await findFreePorts(1)
  const proxy = await startKafkaProxy(ports)
  const kafka = await startKafka({ ports, advertisedPorts: proxy.ports, settings })
  return {
    kafka,
    proxy,
    brokers: `127.0.0.1:${proxy.ports[0]}`,
    async stop() {
      await kafka.stop()
      await proxy.stop()
      releasePorts(ports)
    },
  }
}

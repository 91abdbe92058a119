import { createHash, randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chmod, cp, mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { provideKafka } from '../../shared/dev/brokers/kafka-distribution.ts'
import { cacheFolder } from '../../shared/kafka/native/cache.ts'
import { buildah, buildStage, hasImage, must, provideBase, removeContainers } from '../checks/images-store.ts'
import { tool } from '../checks/tools.ts'
import { PAUSE_IMAGE } from './node.ts'

/** The images of a cluster, as files: ours, Apache Kafka's, and those of the cluster's own services. */

type Say = (progress: string) => void

export const DNS_IMAGE = 'localhost/coredns:1'
export const METRICS_IMAGE = 'localhost/metrics-server:1'

/** An image in a file, by the name that it has there. */
export interface Archive {
  readonly image: string
  /** A `docker-archive`, in the cache. */
  readonly file: string
}

const archives = join(cacheFolder(), 'archives')

/**
 * The file of an image, which is made when its content has changed. Then the older files of its name are removed.
 * @param content changes with it
 */
async function archived(image: string, content: string, provide: () => Promise<void>): Promise<Archive> {
  const prefix = `${image.replaceAll(/[^\w.]+/g, '-')}-`
  const hash = createHash('sha256').update(content).digest('hex').slice(0, 12)
  const file = join(archives, `${prefix}${hash}.tar`)
  if (existsSync(file)) return { image, file }
  await provide()
  await mkdir(archives, { recursive: true })
  const old = (await readdir(archives)).filter((name) => name.startsWith(prefix))
  await Promise.all(old.map((name) => rm(join(archives, name), { force: true })))
  const unfinished = `${file}.${randomUUID()}`
  await buildah('push', '--quiet', image, `docker-archive:${unfinished}:${image}`)
  await rename(unfinished, file)
  return { image, file }
}

const idOf = (image: string): Promise<string> => buildah('images', '--quiet', '--no-trunc', image)

let turn: Promise<unknown> = Promise.resolve()

/** Does one work after the other, so that none removes another's containers. */
function inTurn<T>(work: () => Promise<T>): Promise<T> {
  const done = turn.then(work)
  turn = done.catch(() => undefined)
  return done
}

export const STAGES = ['producer', 'consumer'] as const
type Stage = (typeof STAGES)[number]

let stages: Promise<Record<Stage, Archive>> | undefined

/** Our images: the stages of the Dockerfile. Areas that run side by side have the same. */
export function archiveStages(say: Say): Promise<Record<Stage, Archive>> {
  const archiveStage = async (stage: Stage): Promise<Archive> => {
    say(`building the ${stage}'s image`)
    const image = await buildStage(stage)
    return archived(image, await idOf(image), async () => {})
  }
  stages ??= inTurn(async () => {
    await provideBase(say)
    const all = { producer: await archiveStage('producer'), consumer: await archiveStage('consumer') }
    await removeContainers()
    return all
  })
  return stages
}

/** Holds a pod's namespaces. */
const PAUSE = `package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
}
`

/** An image of one static program. */
async function commitProgram(binary: string, image: string): Promise<void> {
  const container = await buildah('from', 'scratch')
  await buildah('add', '--quiet', '--chmod=755', container, binary, '/program')
  await buildah('config', '--entrypoint=["/program"]', container)
  await buildah('commit', '--quiet', '--rm', container, image)
}

async function commitPause(): Promise<void> {
  const source = await mkdtemp(join(tmpdir(), 'kafkatrace-pause-'))
  const [main, binary] = [join(source, 'main.go'), join(source, 'pause')]
  try {
    await Bun.write(main, PAUSE)
    await must(['env', 'CGO_ENABLED=0', 'go', 'build', '-ldflags=-s -w', '-o', binary, main])
    await commitProgram(binary, PAUSE_IMAGE)
  } finally {
    await rm(source, { recursive: true, force: true })
  }
}

/** The cluster's own images. */
export async function archiveOwn(say: Say): Promise<Archive[]> {
  const [dns, metrics] = [await tool('coredns', say), await tool('metrics-server', say)]
  return inTurn(async () => [
    await archived(PAUSE_IMAGE, PAUSE, commitPause),
    // A tool's path has its version.
    await archived(DNS_IMAGE, dns, () => commitProgram(dns, DNS_IMAGE)),
    await archived(METRICS_IMAGE, metrics, () => commitProgram(metrics, METRICS_IMAGE)),
  ])
}

/**
 * Starts a node of Apache Kafka that is broker and controller. $1 is its server.properties, in which @ID@ stands for its number from 1, as its host
 * name ends, and @HOST@ for its host name.
 */
const START_KAFKA = `#!/bin/sh
set -eu
case $HOSTNAME in
  *-[0-9]) id=$((\${HOSTNAME##*-} + 1)) ;;
  *) id=1 ;;
esac
sed "s/@ID@/$id/g; s/@HOST@/$HOSTNAME/g" "$1" > /tmp/server.properties
java='java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData -Dorg.slf4j.simpleLogger.defaultLogLevel=warn'
$java -Xmx128m -cp '/opt/kafka/*' kafka.tools.StorageTool format --ignore-formatted --cluster-id=c2luZ2xlLWNsdXN0ZXItMQ --config /tmp/server.properties
exec $java -Xmx"\${HEAP_MB:-384}"m -cp '/opt/kafka/*' kafka.Kafka /tmp/server.properties
`

const INSTALL_JAVA =
  'apt-get update && apt-get install --yes --no-install-recommends openjdk-21-jre-headless && rm -rf /var/lib/apt/lists/*'

/** Apache Kafka on the stand-in of our base image, with Debian's Java. @returns the image's name */
async function provideKafkaImage(say: Say): Promise<string> {
  const base = await provideBase(say)
  const { version, classPath } = await provideKafka(say)
  const jars = classPath.split(':')
  const hash = createHash('sha256').update(START_KAFKA).update(classPath).digest('hex').slice(0, 8)
  const image = `localhost/kafka:${version}-${hash}`
  if (await hasImage(image)) return image
  say('making an image of Apache Kafka')
  const folder = await mkdtemp(join(tmpdir(), 'kafkatrace-kafka-image-'))
  try {
    await mkdir(join(folder, 'kafka'))
    for (const jar of jars) await cp(jar, join(folder, 'kafka', jar.split('/').at(-1) ?? ''))
    await Bun.write(join(folder, 'start-kafka'), START_KAFKA)
    await chmod(join(folder, 'start-kafka'), 0o755)
    const container = await buildah('from', '--pull-never', base)
    try {
      await buildah('run', '--isolation=chroot', container, 'sh', '-c', INSTALL_JAVA)
      await buildah('add', '--quiet', container, join(folder, 'kafka'), '/opt/kafka')
      await buildah('add', '--quiet', container, join(folder, 'start-kafka'), '/usr/local/bin/start-kafka')
      const runs = ['--entrypoint=["/usr/local/bin/start-kafka"]', '--cmd=["/etc/kafka/server.properties"]']
      await buildah('config', ...runs, container)
      await buildah('commit', '--quiet', container, image)
    } finally {
      await buildah('rm', container)
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
  return image
}

let kafka: Promise<Archive> | undefined

/** Apache Kafka. Areas that run side by side have the same. */
export function archiveKafka(say: Say): Promise<Archive> {
  kafka ??= inTurn(async () => {
    const image = await provideKafkaImage(say)
    return archived(image, image, async () => {})
  })
  return kafka
}

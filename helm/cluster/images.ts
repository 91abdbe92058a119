import { createHash } from 'node:crypto'
import { chmod, cp, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { provideKafka } from '../../shared/dev/brokers/kafka-distribution.ts'
import { buildah, buildStage, hasImage, must, provideBase } from '../checks/images-store.ts'
import { tool } from '../checks/tools.ts'
import { PAUSE_IMAGE } from './node.ts'

/** The images of a cluster, as files: ours, Apache Kafka's, and those of the cluster's own services. */

type Say = (progress: string) => void

export const DNS_IMAGE = 'localhost/coredns:1'
export const METRICS_IMAGE = 'localhost/metrics-server:1'

/** A stage of the Dockerfile as a `docker-archive`, which no file may be in the way of. @param image the name in it */
export async function archiveStage(stage: string, image: string, file: string): Promise<void> {
  await archive(await buildStage(stage), image, file)
}

const archive = (image: string, as: string, file: string): Promise<string> =>
  buildah('push', '--quiet', image, `docker-archive:${file}:${as}`)

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
async function archiveProgram(binary: string, image: string, file: string): Promise<void> {
  const container = await buildah('from', 'scratch')
  await buildah('add', '--quiet', '--chmod=755', container, binary, '/program')
  await buildah('config', '--entrypoint=["/program"]', container)
  await buildah('commit', '--quiet', '--rm', container, image)
  await archive(image, image, file)
}

/** The cluster's own images. @returns their files */
export async function archiveOwn(folder: string, say: Say): Promise<string[]> {
  await provideBase(say)
  const source = await mkdtemp(join(tmpdir(), 'kafkatrace-pause-'))
  try {
    await Bun.write(join(source, 'main.go'), PAUSE)
    await must([
      'env',
      'CGO_ENABLED=0',
      'go',
      'build',
      '-ldflags=-s -w',
      '-o',
      join(source, 'pause'),
      join(source, 'main.go'),
    ])
    const programs = [
      { image: PAUSE_IMAGE, binary: join(source, 'pause') },
      { image: DNS_IMAGE, binary: await tool('coredns', say) },
      { image: METRICS_IMAGE, binary: await tool('metrics-server', say) },
    ]
    const files: string[] = []
    for (const [index, { image, binary }] of programs.entries()) {
      const file = join(folder, `own-${index}.tar`)
      await archiveProgram(binary, image, file)
      files.push(file)
    }
    return files
  } finally {
    await rm(source, { recursive: true, force: true })
  }
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
export async function provideKafkaImage(say: Say): Promise<string> {
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

/** @returns the name of the image in the file */
export async function archiveKafka(file: string, say: Say): Promise<string> {
  const image = await provideKafkaImage(say)
  await archive(image, image, file)
  return image
}

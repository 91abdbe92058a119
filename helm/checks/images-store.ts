import { cp, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { debootstrap } from '../../shared/dev/debian-root.ts'
import { cacheFolder } from '../../shared/kafka/native/cache.ts'
import { root, run } from './check.ts'
import { basesOf, stagesOf } from './images-dockerfile.ts'

/**
 * Images without a container engine: buildah executes the Dockerfile's own steps in a chroot.
 *
 * No package registry has the base image. A stand-in is made by the same recipe: Debian trixie by debootstrap, with
 * ca-certificates and the same version of Bun from npm. So this does not test the real base image, or other architectures than this
 * machine's.
 */

type Say = (progress: string) => void

const debianSuite = 'trixie'

export async function must(command: readonly [string, ...string[]]): Promise<string> {
  const { exitCode, output, errors } = await run(command)
  if (exitCode !== 0)
    throw new Error(`${command.join(' ')} ended with ${exitCode}:\n${(output + errors).slice(-3_000)}`)
  return output.trim()
}

/** Separate storage in the cache: existing layers are reused, and no other images are touched. */
const storage = join(cacheFolder(), 'images')

const program = ['buildah', '--root', join(storage, 'root'), '--runroot', join(storage, 'run')] as const

export const buildah = (...args: string[]): Promise<string> => must([...program, ...args])

export const hasImage = async (image: string): Promise<boolean> =>
  (await run([...program, 'images', image])).exitCode === 0

/** No registry gives the stand-in the base image's digest: the Dockerfile without it. */
async function unpinnedDockerfile(): Promise<string> {
  const file = join(storage, 'Dockerfile')
  const text = await Bun.file(join(root, '.docker/Dockerfile')).text()
  await Bun.write(file, text.replaceAll(/@sha256:[0-9a-f]{64}/g, ''))
  return file
}

/** Stores the stand-in under the base image's name. @returns the name */
export async function provideBase(say: Say): Promise<string> {
  await mkdir(storage, { recursive: true })
  const [base = ''] = basesOf(stagesOf(await Bun.file(await unpinnedDockerfile()).text()))
  const image = `docker.io/${base}`
  if (await hasImage(image)) return image
  const folder = await mkdtemp(join(tmpdir(), 'kafkatrace-base-'))
  try {
    say('making the base image: Debian')
    const system = join(folder, 'system')
    await must(debootstrap(debianSuite, system, ['ca-certificates']))
    say('making the base image: Bun')
    const name = process.arch === 'arm64' ? 'bun-linux-aarch64' : 'bun-linux-x64-baseline'
    await must(['npm', 'install', '--silent', '--no-save', '--prefix', folder, `@oven/${name}@${Bun.version}`])
    await cp(join(folder, 'node_modules/@oven', name, 'bin/bun'), join(system, 'usr/local/bin/bun'))
    const container = await buildah('from', 'scratch')
    const settings = ['--env=BUN_RUNTIME_TRANSPILER_CACHE_PATH=0', '--cmd=["/usr/local/bin/bun"]']
    // Behind a proxy that terminates TLS, the build must trust this machine's certificate authorities.
    const authorities = process.env.NODE_EXTRA_CA_CERTS
    if (authorities !== undefined) {
      await cp(authorities, join(system, 'usr/local/share/machine-authorities.crt'))
      settings.push('--env=NODE_EXTRA_CA_CERTS=/usr/local/share/machine-authorities.crt')
    }
    await buildah('add', '--quiet', container, system, '/')
    await buildah('config', ...settings, container)
    await buildah('commit', '--quiet', '--rm', container, image)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
  return image
}

/** Builds a stage of the Dockerfile. @returns the image's name */
export async function buildStage(stage: string): Promise<string> {
  const image = `ghcr.io/kafkatrace/${stage}:check`
  await buildah(
    'build',
    '--isolation=chroot',
    '--pull=never',
    // The OCI format has no HEALTHCHECK.
    '--format=docker',
    '--layers',
    '--quiet',
    '--ignorefile=.docker/Dockerfile.dockerignore',
    `--file=${await unpinnedDockerfile()}`,
    `--target=${stage}`,
    `--tag=${image}`,
    root,
  )
  return image
}

/** Removes the containers that building left, and their mounts: a stage without steps leaves one. */
export const removeContainers = (): Promise<string> => buildah('rm', '--all')

/** Removes what building left: containers, and the previous layers of every change. */
export async function removeUnused(): Promise<void> {
  await removeContainers()
  await buildah('rmi', '--prune')
}

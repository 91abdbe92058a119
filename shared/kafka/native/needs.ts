/** What a machine needs to compile the addon. Imports no packages. */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

export const PACKAGE_MANAGERS = ['apt-get', 'dnf', 'apk', 'brew'] as const
export type PackageManager = (typeof PACKAGE_MANAGERS)[number]

/** A requirement that is not part of the project. */
export interface Need {
  /** A command or a header. */
  readonly name: string
  /** Its purpose, as the end of a sentence. */
  readonly for: string
  /** The package that contains it; undefined when the system has it, or it is installed by other means. */
  readonly packages: Readonly<Record<PackageManager, string | undefined>>
  isThere(): boolean
}

/** A command's path by the current PATH, which may have changed since the process started; null when it is not found. */
export const onPath = (command: string): string | null => Bun.which(command, { PATH: process.env.PATH ?? '' })

export const hasCommand = (name: string): boolean => onPath(name) !== null

const INCLUDE_FOLDERS = ['/usr/include', '/usr/local/include', '/opt/homebrew/include']

/** Asks the compiler, which knows the system's folders; without one, searches the usual folders. */
function hasHeader(header: string): boolean {
  if (hasCommand('cc'))
    return Bun.spawnSync(['cc', '-E', '-x', 'c', '-o', '/dev/null', '-'], {
      stdin: Buffer.from(`#include <${header}>\n`),
    }).success
  const multiarch = existsSync('/usr/include')
    ? readdirSync('/usr/include')
        .filter((name) => name.endsWith('-linux-gnu'))
        .map((name) => join('/usr/include', name))
    : []
  return [...INCLUDE_FOLDERS, ...multiarch].some((folder) => existsSync(join(folder, header)))
}

const needing =
  (isThere: (name: string) => boolean) =>
  (name: string, purpose: string, packages: Need['packages']): Need => ({
    name,
    for: purpose,
    packages,
    isThere: () => isThere(name),
  })

export const command = needing(hasCommand)
const header = needing(hasHeader)

const COMPILER = {
  'apt-get': 'build-essential',
  dnf: 'gcc-c++',
  apk: 'build-base',
  // macOS asks whether to install its command-line tools when they are first used.
  brew: undefined,
}
const MAKE = { ...COMPILER, dnf: 'make' }
const BINUTILS = { ...COMPILER, dnf: 'binutils' }

const PATCH = { 'apt-get': 'patch', dnf: 'patch', apk: 'patch', brew: undefined }
const COMPILE_ADDON = 'compiling the Kafka client’s addon'

/** Required to compile the addon. */
export const COMPILING: readonly Need[] = [
  command('c++', COMPILE_ADDON, COMPILER),
  command('cc', COMPILE_ADDON, COMPILER),
  command('make', COMPILE_ADDON, MAKE),
  command('ar', COMPILE_ADDON, BINUTILS),
  command('nm', 'checking the Kafka client’s addon', BINUTILS),
  command('patch', COMPILE_ADDON, PATCH),
  header('zlib.h', 'gzip', { 'apt-get': 'zlib1g-dev', dnf: 'zlib-devel', apk: 'zlib-dev', brew: undefined }),
  header('openssl/ssl.h', 'TLS and SASL', {
    'apt-get': 'libssl-dev',
    dnf: 'openssl-devel',
    apk: 'openssl-dev',
    brew: 'openssl@3',
  }),
]

/** Libraries that the addon can be built without, and librdkafka's option for that. */
export const OPTIONAL: readonly (Need & { readonly off: string })[] = [
  {
    ...header('zstd.h', 'zstd', { 'apt-get': 'libzstd-dev', dnf: 'libzstd-devel', apk: 'zstd-dev', brew: 'zstd' }),
    off: '--disable-zstd',
  },
  {
    ...header('curl/curl.h', 'OAUTHBEARER over OIDC', {
      'apt-get': 'libcurl4-openssl-dev',
      dnf: 'libcurl-devel',
      apk: 'curl-dev',
      brew: 'curl',
    }),
    off: '--disable-curl',
  },
]

/** What has to be on a machine before the addon can be compiled. Uses nothing that has to be installed. */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

/** The package managers whose names for things are known. */
export const PACKAGE_MANAGERS = ['apt-get', 'dnf', 'apk', 'brew'] as const
export type PackageManager = (typeof PACKAGE_MANAGERS)[number]

/** Something that has to be on the machine, and is not part of the project. */
export interface Need {
  /** A command or a header. */
  readonly name: string
  /** What it is for, as the end of a sentence. */
  readonly for: string
  /** The package that brings it; undefined where the system has it already, or by other means. */
  readonly packages: Readonly<Record<PackageManager, string | undefined>>
  isThere(): boolean
}

/** Where a command is on the path as it is now, not as it was when this process started; null: nowhere. */
export const onPath = (command: string): string | null => Bun.which(command, { PATH: process.env.PATH ?? '' })

export const hasCommand = (name: string): boolean => onPath(name) !== null

/** A command that has to be on the path. */
export const command = (name: string, purpose: string, packages: Need['packages']): Need => ({
  name,
  for: purpose,
  packages,
  isThere: () => hasCommand(name),
})

const INCLUDE_FOLDERS = ['/usr/include', '/usr/local/include', '/opt/homebrew/include']

/** The compiler knows where this system keeps its headers. Without one, the usual folders are looked into. */
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

const header = (name: string, purpose: string, packages: Need['packages']): Need => ({
  name,
  for: purpose,
  packages,
  isThere: () => hasHeader(name),
})

const COMPILER = {
  'apt-get': 'build-essential',
  dnf: 'gcc-c++',
  apk: 'build-base',
  // macOS asks whether to install its command-line tools when they are first used.
  brew: undefined,
}
const MAKE = { ...COMPILER, dnf: 'make' }
const BINUTILS = { ...COMPILER, dnf: 'binutils' }

/** What the addon is compiled with; without one of these it cannot be. */
export const COMPILING: readonly Need[] = [
  command('c++', 'compiling the Kafka client’s addon', COMPILER),
  command('cc', 'compiling the Kafka client’s addon', COMPILER),
  command('make', 'compiling the Kafka client’s addon', MAKE),
  command('ar', 'compiling the Kafka client’s addon', BINUTILS),
  command('nm', 'checking the Kafka client’s addon', BINUTILS),
  command('patch', 'compiling the Kafka client’s addon', {
    'apt-get': 'patch',
    dnf: 'patch',
    apk: 'patch',
    brew: undefined,
  }),
  header('zlib.h', 'gzip', { 'apt-get': 'zlib1g-dev', dnf: 'zlib-devel', apk: 'zlib-dev', brew: undefined }),
  header('openssl/ssl.h', 'TLS and SASL', {
    'apt-get': 'libssl-dev',
    dnf: 'openssl-devel',
    apk: 'openssl-dev',
    brew: 'openssl@3',
  }),
]

/** Libraries that the addon can do without, and librdkafka's option that leaves them out. */
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

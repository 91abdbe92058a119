import { describe, expect, test } from 'bun:test'
import {
  advice,
  askingOf,
  commandLine,
  isLocked,
  isWaiting,
  NEEDS,
  packagesFor,
  unreachedHosts,
} from './requirements.ts'

const compiling = NEEDS.addon.filter(({ name }) => name !== 'zstd.h' && name !== 'curl/curl.h')

describe('packages', () => {
  test('each is named once, as each package manager names it', () => {
    expect(packagesFor('apt-get', compiling)).toEqual(['build-essential', 'patch', 'zlib1g-dev', 'libssl-dev'])
    expect(packagesFor('dnf', compiling)).toEqual([
      'gcc-c++',
      'make',
      'binutils',
      'patch',
      'zlib-devel',
      'openssl-devel',
    ])
    expect(packagesFor('apk', compiling)).toEqual(['build-base', 'patch', 'zlib-dev', 'openssl-dev'])
  })

  test('none where the system has them', () => {
    expect(packagesFor('brew', NEEDS.unit)).toEqual([])
  })
})

describe('the command to copy', () => {
  test('is one line, as root and as a user with sudo, who types it before each of its parts', () => {
    expect(commandLine('apt-get', ['make'], 'as we are')).toBe(
      'apt-get update && apt-get install --yes --no-install-recommends make',
    )
    expect(commandLine('apt-get', ['make'], 'sudo with a password')).toBe(
      'sudo apt-get update && sudo apt-get install --yes --no-install-recommends make',
    )
    expect(commandLine('dnf', ['make'], 'sudo')).toBe('sudo dnf install --assumeyes make')
  })

  test('asks for root’s password where there is no sudo', () => {
    expect(commandLine('dnf', ['make'], 'none')).toBe("su -c 'dnf install --assumeyes make'")
  })

  test('is never root’s with Homebrew', () => {
    expect(commandLine('brew', ['zstd'], 'none')).toBe('brew install zstd')
  })
})

describe('what is told', () => {
  test('says what is missing and what for, and how this system gets it', () => {
    expect(advice(NEEDS.kafka, 'apt-get', 'as we are').split('\n')).toEqual([
      'not on this machine, and needed:',
      '  java 17: for running Apache Kafka',
      '  mvn: for fetching Apache Kafka',
      'to install them:',
      '  apt-get update && apt-get install --yes --no-install-recommends default-jre-headless maven',
    ])
  })

  test('has the command of each system where ours is not known', () => {
    const lines = advice(NEEDS.kafka, undefined, 'none').split('\n')
    for (const system of ['Debian, Ubuntu', 'Fedora', 'Alpine', 'macOS'])
      expect(lines.filter((line) => line.includes(system))).toHaveLength(1)
  })
})

test('a person at a terminal is asked before anything is installed, and only told where the question would not be seen', () => {
  expect(askingOf(true, true)).toBe('ask')
  expect(askingOf(true, false)).toBe('tell')
  expect(askingOf(false, true)).toBe('go on')
  expect(askingOf(false, false)).toBe('go on')
})

describe('what a package manager’s log says', () => {
  const held =
    'Reading package lists...\nE: Could not get lock /var/lib/apt/lists/lock. It is held by process 42 (apt-get)\nE: Unable to lock directory /var/lib/apt/lists/\n'
  const waits =
    'Reading package lists...\nWaiting for cache lock: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 42 (dpkg)... 3s'
  const down =
    'Reading package lists...\nW: Failed to fetch http://deb.example/debian/dists/trixie/InRelease  Could not connect to deb.example:80\nW: Failed to fetch http://deb.example/debian/dists/trixie-updates/InRelease  Could not connect\nW: Some index files failed to download.\n'

  test('another one is at work', () => {
    expect(isLocked(held)).toBe(true)
    expect(isLocked(waits)).toBe(false)
    expect(isLocked(down)).toBe(false)
  })

  test('it waits for another one, and no longer does', () => {
    expect(isWaiting(waits)).toBe(true)
    expect(isWaiting(`${waits}\rWaiting for cache lock: Could not get lock ... 4s`)).toBe(true)
    expect(isWaiting(`${waits}\nSelecting previously unselected package make.\n`)).toBe(false)
    expect(isWaiting(held)).toBe(false)
  })

  test('a host cannot be reached', () => {
    expect(unreachedHosts(down)).toEqual(['deb.example'])
    expect(unreachedHosts('E: Failed to fetch https://a.example:8080/make.deb  Connection timed out\n')).toEqual([
      'a.example:8080',
    ])
    expect(unreachedHosts('E: Failed to fetch https://a.example/make.deb  404  Not Found [IP: 10.0.0.1 80]\n')).toEqual(
      [],
    )
    expect(unreachedHosts(held)).toEqual([])
  })
})

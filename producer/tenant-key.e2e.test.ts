import { expect, test } from 'bun:test'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** tenant-key as a shell starts it. */

const FILE = { tenants: { shop: { streams: ['events'], keys: [] } } }

test.skipIf(process.platform !== 'linux').each([
  ['/dev/full', '"$@" > /dev/full'],
  [
    'a pipe that nobody reads',
    '{ trap "" PIPE; while printf . 2> /dev/null; do :; done; "$@"; echo "code $?" >&2; } | true',
  ],
])('a key that standard output does not take is a failure: %s', async (_, script) => {
  const home = mkdtempSync(join(tmpdir(), 'kafkatrace-tenant-key-'))
  try {
    const path = join(home, 'tenants.json')
    writeFileSync(path, JSON.stringify(FILE))
    const command = [process.execPath, join(import.meta.dir, 'tenant-key.ts'), 'make', 'shop', 'web', '--file', path]
    const child = Bun.spawn(['sh', '-c', `${script}; echo "code $?" >&2`, 'sh', ...command], { stderr: 'pipe' })
    const said = await child.stderr.text()
    expect(said).toContain('is lost: ')
    expect(said).toContain(`web was added to ${path} all the same: revoke it\n`)
    expect(said).toContain('code 1\n')
  } finally {
    rmSync(home, { recursive: true })
  }
})

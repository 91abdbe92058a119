import { expect, test } from 'bun:test'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { settled } from '../testing/settled.ts'
import { fileNameOf, parseFileName, readSchemaFile, schemaFiles } from './folder.ts'
import { MAX_SCHEMA_BYTES } from './verdict.ts'

test('a subject is in the name of its file, and comes back from it', () => {
  expect(fileNameOf({ subject: 'acme.orders-order.placed', version: 2 })).toBe('acme.orders-order.placed.v2.json')
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', minLength: 1 }), fc.integer({ min: 1, max: 999 }), (subject, version) => {
      const name = fileNameOf({ subject, version })
      expect(name).toMatch(/^[A-Za-z0-9_%-][A-Za-z0-9._%-]*$/)
      expect(parseFileName(name)).toEqual({ subject, version })
    }),
  )
})

test.each([
  'order.json',
  'order.v.json',
  'order.v0.json',
  'order.v01.json',
  '.v1.json',
  'order.v1.JSON',
  '%ZZ.v1.json',
])('%s names no version', (name) => {
  expect(parseFileName(name)).toBeUndefined()
})

test('versions are listed by subject and number, at any depth', () => {
  const { files, faults } = schemaFiles([
    'b.v1.json',
    'deep/er/a.v10.json',
    'a.v9.json',
    'README.md',
    '.git/a.v1.json',
    'deep/.x.v1.json',
  ])
  expect(faults).toEqual([])
  expect(files.map(({ path }) => path)).toEqual(['a.v9.json', 'deep/er/a.v10.json', 'b.v1.json'])
})

test('a version that is there twice, and a file with another name, are named', () => {
  expect(schemaFiles(['x/a.v1.json', 'y/a.v1.json', 'order.json']).faults).toEqual([
    'order.json: is not named SUBJECT.vVERSION.json, as in acme.orders-order.placed.v2.json',
    'y/a.v1.json: is version 1 of a, and so is x/a.v1.json',
  ])
})

test('a file is read whole, up to the size that a schema may have, and nothing else is', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'kafkatrace-schemas-'))
  const path = join(folder, 'a.v1.json')
  try {
    for (const size of [0, 1, MAX_SCHEMA_BYTES]) {
      writeFileSync(path, 'x'.repeat(size))
      expect(await readSchemaFile(path)).toEqual(Buffer.from('x'.repeat(size)))
    }
    writeFileSync(path, 'x'.repeat(MAX_SCHEMA_BYTES + 1))
    expect(await settled(readSchemaFile(path))).toThrow(`${path}: has 262145 bytes; a schema may have 262144`)
    expect(await settled(readSchemaFile(join(folder, 'b')))).toThrow('b: there is no such file')
    for (const other of [folder, '/dev/zero'])
      expect(await settled(readSchemaFile(other))).toThrow(`${other}: is no regular file`)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})

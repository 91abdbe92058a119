import { afterAll, describe, expect, test } from 'bun:test'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { cacheFault, cacheFolder } from './cache.ts'

const directory = mkdtempSync(join(tmpdir(), 'kafkatrace-cache-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const noHome = (): string => {
  throw Object.assign(new Error('ENOENT'), { code: 'ENOENT' })
}

describe('the cache', () => {
  test('is where the user says, else where the system says', () => {
    expect(cacheFolder({ KAFKATRACE_CACHE_DIR: '/a', XDG_CACHE_HOME: '/b' })).toBe('/a')
    expect(cacheFolder({ XDG_CACHE_HOME: '/b' })).toBe('/b/kafkatrace')
    expect(cacheFolder({}, () => '/home/user')).toBe('/home/user/.cache/kafkatrace')
  })

  test('is not named by a variable that is empty', () => {
    expect(cacheFolder({ KAFKATRACE_CACHE_DIR: '', XDG_CACHE_HOME: '' }, () => '/home/user')).toBe(
      '/home/user/.cache/kafkatrace',
    )
  })

  test('has an absolute path, also where a relative one was given', () => {
    expect(cacheFolder({ KAFKATRACE_CACHE_DIR: 'rel' })).toBe(resolve('rel'))
    expect(cacheFolder({ XDG_CACHE_HOME: 'rel' })).toBe(resolve('rel/kafkatrace'))
  })

  test('is made when it can be written, and nothing else stays in it', () => {
    const folder = join(directory, 'new/cache')
    expect(cacheFault({ KAFKATRACE_CACHE_DIR: folder })).toBeUndefined()
    expect(readdirSync(folder)).toEqual([])
  })

  test('that cannot be written is named, with what to do', () => {
    const file = join(directory, 'file')
    writeFileSync(file, '')
    expect(cacheFault({ KAFKATRACE_CACHE_DIR: join(file, 'cache') })).toBe(
      `the cache ${file}/cache cannot be written (ENOTDIR); name another with KAFKATRACE_CACHE_DIR`,
    )
  })

  test('of a user without a home folder has to be named', () => {
    expect(cacheFault({}, noHome)).toEndWith('name a folder with KAFKATRACE_CACHE_DIR')
    expect(cacheFolder({ KAFKATRACE_CACHE_DIR: '/a' }, noHome)).toBe('/a')
  })
})

import { describe, expect, test } from 'bun:test'
import { before, commandsOf, isExample, jsonOf, replacementOf } from './page.ts'

const PAGE = `# Deployment

## Before the first release

\`\`\`sh
docker build .
\`\`\`

In step 3, replace \`oci://charts/one --version 1\` by \`helm/charts/one\`, and add
\`--set image=registry.example.com/one\`: nothing else.

## Install

1. **Make a key.**

   \`\`\`json
   {"a": "…"}
   \`\`\`

   \`\`\`sh
   # Needs a name.
   helm upgrade --install one oci://charts/one --version 1 \\
     --wait
   \`\`\`

2. \`\`\`sh
   curl http://127.0.0.1:8080
   \`\`\`

## Remove

\`\`\`sh
helm uninstall one
\`\`\`
`

describe('the page', () => {
  test('gives the commands of a section in their order, without those of the next', () => {
    expect(commandsOf(PAGE, 'Install')).toEqual(['helm upgrade --install one oci://charts/one --version 1 --wait'])
    expect(commandsOf(PAGE, 'Remove')).toEqual(['helm uninstall one'])
    expect(jsonOf(PAGE, 'Install')).toBe('{"a": "…"}')
    expect(() => commandsOf(PAGE, 'Upgrade')).toThrow('no section "Upgrade"')
  })

  test('says what is replaced before the first release, and only there', () => {
    const replacement = replacementOf(PAGE)
    const [install = ''] = commandsOf(PAGE, 'Install')
    expect(before(install, replacement)).toBe(
      'helm upgrade --install one helm/charts/one --wait --set image=registry.example.com/one',
    )
    expect(before('helm history one', replacement)).toBe('helm history one')
    expect(() => replacementOf(PAGE.replace('replace', 'use'))).toThrow('does not say')
  })

  test('has examples for other clusters, which cannot be typed', () => {
    expect(isExample('helm upgrade one --set brokers=kafka.example.com:9093')).toBe(true)
    expect(isExample('helm upgrade one --set image=registry.example.com/one')).toBe(false)
  })
})

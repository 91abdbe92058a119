import { useDraft } from './draft.ts'
import { Choice, Field } from './parts.tsx'
import { change } from './place.ts'

/** Filters of a view: what is chosen is in the address at once, what is typed when the form is submitted. */

export type FieldOf = readonly [name: string, label: string, placeholder: string]

export interface ChoiceOf {
  name: string
  label: string
  /** While the address has none. */
  value: string
  options: readonly (readonly [value: string, text: string])[]
}

export function FilterForm({
  first = [],
  fields,
  last = [],
  button,
  resets = {},
}: {
  /** Choices before the fields, and after them. */
  first?: readonly ChoiceOf[]
  fields: readonly FieldOf[]
  last?: readonly ChoiceOf[]
  button: string
  /** Parameters of the address that do not survive another filter. */
  resets?: Readonly<Record<string, string>>
}) {
  const [draft, set] = useDraft()
  const submit = (chosen: Readonly<Record<string, string>> = {}): void => change({ ...draft, ...chosen, ...resets })
  const choices = (all: readonly ChoiceOf[]) =>
    all.map(({ name, label, value, options }) => (
      <Choice
        key={name}
        label={label}
        value={draft[name] ?? value}
        options={options}
        onChange={(chosen) => submit({ [name]: chosen })}
      />
    ))
  return (
    <form
      class="card form"
      onSubmit={(event) => {
        event.preventDefault()
        submit()
      }}
    >
      {choices(first)}
      {fields.map(([name, label, placeholder]) => (
        <Field
          key={name}
          label={label}
          value={draft[name] ?? ''}
          placeholder={placeholder}
          onInput={(value) => set({ [name]: value })}
        />
      ))}
      {choices(last)}
      <button type="submit" class="main">
        {button}
      </button>
    </form>
  )
}

/**
 * A CloudEvent (CloudEvents 1.0.2, section 3) as both services hold it: context attributes as their canonical strings (section 3.1's type
 * system), data as bytes. This is what the binary modes of the HTTP and Kafka bindings carry, so that neither service encodes data again.
 */
export interface Event {
  id: string
  source: string
  type: string
  subject?: string
  /** RFC 3339 with an offset, as it was sent. */
  time?: string
  datacontenttype?: string
  dataschema?: string
  /** Extension attributes by name, each value in its canonical string form. */
  extensions: Readonly<Record<string, string>>
  /** null: the event has no data, which is not the same as zero bytes of it. */
  data: Buffer | null
}

/** What goes along with a list of instances (RFC 6763, 12.1): a client that browses asks for these records next. */
import { formatName } from "../names/names.ts";
import type { DnsRecord, RecordContext } from "../records/record.ts";
import { dataBytes, RECORDS } from "../records/records.ts";
import type { Subject } from "../subject/subject.ts";

/** Most instances whose records go along, and most bytes of these in all: more fit into few messages, and would make a plan of a long list large. */
const MAX_INSTANCES = 64;
const MAX_BYTES = 16_384;

/**
 * SRV and TXT of the instances that the subject lists, by the name of each. They are made of the entries that the list is made of, so nothing more is looked up. Of a sample of
 * entries no set is known to be whole.
 */
export function recordsOfInstances(subject: Subject, context: RecordContext): ReadonlyMap<string, readonly DnsRecord[]> {
  const found = new Map<string, readonly DnsRecord[]>();
  if (subject.kind !== "entries" || subject.browsed === undefined || subject.cut !== "nothing") return found;
  const { name, namespace, transport } = subject.browsed;
  const targets = Map.groupBy(subject.targets, ({ entry }) => entry.key.instanceId);
  let left = MAX_BYTES;
  for (const [instanceId, entries] of Map.groupBy(subject.entries, ({ key }) => key.instanceId)) {
    const owner = formatName({ form: "instance", transport, instanceId, name, namespace }, context.zone);
    if (owner === undefined) continue;
    const own: Subject = { kind: "entries", shape: "located", entries, targets: targets.get(instanceId) ?? [], cut: "nothing" };
    const there = { ...context, owner };
    const records: readonly DnsRecord[] = [...RECORDS.SRV.find(own, there), ...RECORDS.TXT.find(own, there)].flat();
    left -= records.reduce((sum, record) => sum + dataBytes(record), 0);
    if (left < 0 || found.size === MAX_INSTANCES) return found;
    found.set(owner.toLowerCase(), records);
  }
  return found;
}

/** PTR records: the names that a name lists. */

import { formatName } from "../names/names.ts";
import { MAX_BROWSED } from "../subject/browsing.ts";
import type { Subject } from "../subject/subject.ts";
import type { RecordContext, RecordOf } from "./record.ts";
import { setTtlSeconds } from "./ttl.ts";

/**
 * A record for each name of a list, such as the names of an address, and for each instance of a service that is browsed (RFC 6763, 4). Where a list has a bound, the set is what it
 * holds.
 */
export function pointerRecords(subject: Subject, context: RecordContext): RecordOf<"PTR">[][] {
  const { owner, settings, zone } = context;
  if (subject.kind === "list") {
    const ttl = setTtlSeconds(subject.ttlSources, settings);
    return [subject.names.items.map((target) => ({ type: "PTR", name: owner, ttlSeconds: ttl, data: { target } }))];
  }
  if (subject.kind !== "entries" || subject.browsed === undefined) return [];
  const { name, namespace, transport } = subject.browsed;
  const ttl = setTtlSeconds(subject.entries, settings);
  const targets = instanceIds(subject)
    .slice(0, MAX_BROWSED)
    .flatMap((instanceId) => formatName({ form: "instance", transport, instanceId, name, namespace }, zone) ?? []);
  return [targets.map((target) => ({ type: "PTR", name: owner, ttlSeconds: ttl, data: { target } }))];
}

/** Each id once: instances of several clusters may share one, and have one name. */
function instanceIds({ entries }: Subject & { readonly kind: "entries" }): readonly string[] {
  return [...new Set(entries.map(({ key }) => key.instanceId))];
}

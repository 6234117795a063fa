/**
 * What an entry must obey, checked by hand because protovalidate's CEL costs 50 times as much; test/catalog/entry/rules.test.ts
 * holds both equal. Only code can state: unique target names, hosts, reserved namespaces, detail agreeing with kind,
 * semantic versions, well-formed text and times, the encoded size.
 */

import { utf8Size } from "../../lib/protowire.ts";
import { HEALTH, KIND, type Kind } from "../record/record.ts";
import type { DetailFields, EntryFields, KeyFields, LoadFields, TargetFields, TimeFields } from "./fields.ts";
import { findHostForm } from "./hosts.ts";
import { checkWords, findKind, KINDS, kindOfDetail } from "./kinds.ts";
import { CHARS, consistsOf, isNamespace, isReservedNamespace, nameRule, namespaceRule, quoted } from "./names.ts";
import type { Problems } from "./problems.ts";
import { SCOPE } from "./scope.ts";

/** Who wrote the entry: a client (reserved namespaces refused), this node itself, or a record that was stamped before. */
export type Writer = "client" | "node" | "record";

const MAX_PORT = 65_535;
const RATIO = { min: 0, max: 1 };
const LATENCY_MS = { min: 0, max: 1e9 };
const UINT16 = { min: 0, max: 65_535 };
const NANOS_PER_SECOND = 1_000_000_000;
/** End of the year 9999, the last a Timestamp may say. */
const MAX_TIMESTAMP_SECONDS = 253_402_300_799n;

/** Adds all that is wrong with an entry. `path` names it and ends in a dot, or is empty. */
export function checkEntry(entry: EntryFields, path: string, problems: Problems, writer: Writer): void {
  const { bounds } = problems;
  if (entry.key === undefined) problems.add(`${path}key`, "is required");
  else {
    checkKey(entry.key, `${path}key.`, problems);
    checkPlace(entry.key, entry.detail, path, problems, writer);
  }
  if (entry.scope !== SCOPE.UNSET && !(entry.scope >= SCOPE.LOCAL && entry.scope <= SCOPE.GLOBAL)) {
    problems.add(`${path}scope`, `${entry.scope} is not a scope`);
  }
  checkTargets(entry.targets, path, problems);
  problems.uniqueNames(entry.tags, path, "tags");
  problems.uniqueNames(entry.capabilities, path, "capabilities");
  problems.uniqueNames(entry.resources, path, "resources");
  checkMetadata(entry.metadata, path, problems);
  if (entry.ttl !== undefined) checkTtl(entry.ttl, path, problems);
  if (entry.aliases.length > 0) {
    problems.list(entry.aliases, { chars: CHARS.ALIAS, maxLength: bounds.maxAliasLength, what: "[A-Za-z0-9._-]" }, `${path}aliases`);
    problems.unique(entry.aliases, path, "aliases");
  }
  problems.text(entry.clusterId, bounds.maxIdLength, path, "cluster_id");
  problems.text(entry.region, bounds.maxIdLength, path, "region");
  if (!consistsOf(entry.zone, CHARS.NAME, bounds.maxIdLength)) problems.add(`${path}zone`, nameRule(entry.zone, bounds.maxIdLength));
  problems.text(entry.nodeId, bounds.maxIdLength, path, "node_id");
  problems.text(entry.tenantId, bounds.maxIdLength, path, "tenant_id");
  checkHealth(entry.health, path, problems, writer);
  if (entry.load !== undefined) checkLoad(entry.load, `${path}load.`, problems);
  const detail = entry.detail;
  if (detail.case === undefined) return;
  KINDS[kindOfDetail(detail.case)].check(detail, `${path}${detail.case}.`, problems);
  if (writer === "client") checkWords(detail, `${path}${detail.case}.`, problems);
}

/** Adds what is wrong with a key; an unset kind and an empty cluster are allowed. `path` ends in a dot. */
export function checkKey(key: KeyFields, path: string, problems: Problems): void {
  const { bounds } = problems;
  if (key.kind !== 0 && findKind(key.kind) === undefined) problems.add(`${path}kind`, `${key.kind} is not a kind`);
  if (!isNamespace(key.namespace, bounds)) problems.add(`${path}namespace`, namespaceRule(key.namespace, bounds));
  problems.name(key.name, path, "name");
  problems.name(key.instanceId, path, "instance_id");
  if (!consistsOf(key.clusterId, CHARS.NAME, bounds.maxIdLength)) {
    problems.add(`${path}cluster_id`, nameRule(key.clusterId, bounds.maxIdLength));
  }
}

/** The kind an entry has: as said, else its detail's, else SERVICE. Meaningful after `checkEntry` found nothing. */
export function kindOf(key: KeyFields, detail: EntryFields["detail"]): Kind {
  return findKind(key.kind) ?? (detail.case === undefined ? KIND.SERVICE : kindOfDetail(detail.case));
}

function checkPlace(key: KeyFields, detail: EntryFields["detail"], path: string, problems: Problems, writer: Writer): void {
  if (writer === "client" && isReservedNamespace(key.namespace)) {
    problems.add(`${path}key.namespace`, `${quoted(key.namespace)} is reserved for the control plane`);
  }
  if (writer === "record" && key.kind === 0) problems.add(`${path}key.kind`, "is required");
  const kind = findKind(key.kind);
  if (kind !== undefined && detail.case !== undefined && !agrees(detail.case, kind)) {
    problems.add(`${path}${detail.case}`, `does not go with kind ${KINDS[kind].text}`);
  }
}

function agrees(detail: DetailFields["case"], kind: Kind): boolean {
  return KINDS[kind].detail === detail;
}

function checkTargets(targets: readonly TargetFields[], path: string, problems: Problems): void {
  problems.count(targets.length, problems.bounds.maxTargets, path, "targets");
  for (let i = 0; i < targets.length; i++) {
    const target = targets[i];
    if (target !== undefined) checkTarget(target, i, path, problems);
  }
  if (targets.length < 2) return;
  const seen = new Set<string>();
  for (let i = 0; i < targets.length; i++) {
    const name = targets[i]?.name ?? "";
    if (name === "") continue;
    if (seen.has(name)) problems.add(`${path}targets[${i}].name`, `${quoted(name)} is there twice`);
    seen.add(name);
  }
}

function checkTarget(target: TargetFields, index: number, path: string, problems: Problems): void {
  const { bounds } = problems;
  // HOT: paths are only built for what is wrong (bench/codec.ts: building them first costs 0.3 µs a target).
  if (!consistsOf(target.name, CHARS.NAME, bounds.maxNameLength)) {
    problems.add(`${path}targets[${index}].name`, nameRule(target.name, bounds.maxNameLength));
  }
  if (findHostForm(target.host, bounds.maxHostLength) === undefined) {
    problems.add(
      `${path}targets[${index}].host`,
      `${quoted(target.host)} must be an IPv4 or IPv6 literal or a DNS name, at most ${bounds.maxHostLength} characters`,
    );
  }
  if (!(target.port >= 1 && target.port <= MAX_PORT)) {
    problems.add(`${path}targets[${index}].port`, `${target.port} must be 1 to ${MAX_PORT}`);
  }
  if (target.priority > MAX_PORT) problems.range(target.priority, UINT16, `${path}targets[${index}].`, "priority");
  if (target.weight > MAX_PORT) problems.range(target.weight, UINT16, `${path}targets[${index}].`, "weight");
  if (!consistsOf(target.protocol, CHARS.NAME, bounds.maxNameLength)) {
    problems.add(`${path}targets[${index}].protocol`, nameRule(target.protocol, bounds.maxNameLength));
  }
}

function checkMetadata(metadata: Readonly<Record<string, string>>, path: string, problems: Problems): void {
  const { maxMetadataPairs, maxMetadataKeyLength, maxMetadataValueBytes } = problems.bounds;
  let count = 0;
  // A decoded map has no prototype of its own making, so `in` order is `Object.keys` without the array.
  for (const key in metadata) {
    count++;
    if (key.length === 0 || !consistsOf(key, CHARS.NAME, maxMetadataKeyLength)) {
      problems.add(`${path}metadata[${quoted(key)}]`, `key: ${nameRule(key, maxMetadataKeyLength)}`);
    }
    checkMetadataValue(metadata[key] ?? "", maxMetadataValueBytes, `${path}metadata[`, key, problems);
  }
  problems.count(count, maxMetadataPairs, path, "metadata");
}

function checkMetadataValue(value: string, maxBytes: number, path: string, key: string, problems: Problems): void {
  // Three bytes a character at most, so short values need no count.
  if (value.length * 3 > maxBytes && utf8Size(value) > maxBytes) {
    problems.add(`${path}${quoted(key)}]`, `value has ${utf8Size(value)} bytes, at most ${maxBytes}`);
  } else if (!value.isWellFormed()) problems.add(`${path}${quoted(key)}]`, "value is not well-formed Unicode");
}

function checkTtl(ttl: TimeFields, path: string, problems: Problems): void {
  const maxSeconds = problems.bounds.maxEntryTtlMs / 1000;
  const seconds = Number(ttl.seconds);
  const isWithin = seconds >= 0 && ttl.nanos >= 0 && (seconds < maxSeconds || (seconds === maxSeconds && ttl.nanos === 0));
  if (!isWithin || ttl.nanos >= NANOS_PER_SECOND)
    problems.add(`${path}ttl`, `${seconds + ttl.nanos / 1e9} s must be 0 s to ${maxSeconds} s`);
}

function checkHealth(health: number, path: string, problems: Problems, writer: Writer): void {
  if (health >= HEALTH.UNSET && health <= HEALTH.MAINTENANCE) return;
  if (health === HEALTH.ORPHANED) problems.add(`${path}health`, "ORPHANED is what the server says of entries whose node is away");
  // A record's unknown health comes from a newer peer: held and forwarded, never guessed.
  else if (writer !== "record") problems.add(`${path}health`, `${health} is not a health status`);
}

/** Adds what is wrong with a load report. `path` ends in a dot. */
export function checkLoad(load: LoadFields, path: string, problems: Problems): void {
  problems.range(load.errorRate, RATIO, path, "error_rate");
  problems.range(load.latencyMs, LATENCY_MS, path, "latency_ms");
  problems.range(load.utilization, RATIO, path, "utilization");
  if (load.observedAt !== undefined) checkTime(load.observedAt, path, "observed_at", problems);
}

/** Adds what is wrong with a time. `path` ends in a dot, or is empty. */
export function checkTime({ seconds, nanos }: TimeFields, path: string, field: string, problems: Problems): void {
  const isWithin = seconds >= 0n && seconds <= MAX_TIMESTAMP_SECONDS;
  if (!isWithin || nanos < 0 || nanos >= NANOS_PER_SECOND) problems.add(path + field, "must be a time from 1970 to 9999");
}

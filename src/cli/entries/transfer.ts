/**
 * Registers the entries of a file: reports problems, compares the entries with the catalog, registers them under one static lease, and removes
 * old ones.
 */
import { clone, type JsonValue, type MessageInitShape, type MessageShape, toBinary, toJson } from "@bufbuild/protobuf";
import { type Entry, EntryKeySchema, EntrySchema, HealthStatus, Scope } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { type CatalogQueryRequestSchema, DiscoveryService } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import type { ClientCalls } from "../../client/calls.ts";
import { RequestError } from "../../client/request-error.ts";
import type { LineProblem } from "../../lib/formats/documents.ts";
import { protocolWord } from "../../lib/protocols.ts";
import { counted } from "../../lib/text/visible-text.ts";
import { EXIT, type ExitCode } from "../exit.ts";
import { messageJson } from "../messages.ts";
import type { CommandOutput } from "../output.ts";
import { MAX_PAGE, pagesOf } from "../pages.ts";
import { keyWords } from "../texts.ts";
import { type FileEntry, keyOf } from "./file.ts";

export interface EntryTransfer {
  /** Name of the input, used in messages. */
  readonly file: string;
  readonly entries: readonly FileEntry[];
  readonly problems: readonly LineProblem[];
  /** Whether to apply the valid entries even if others have problems. */
  readonly isPartial: boolean;
  readonly isDryRun: boolean;
  /** Namespaces to compare with: exactly the given namespaces, or all namespaces below a prefix. */
  readonly namespaces: readonly ({ readonly namespace: string } | { readonly namespacePrefix: string })[];
  /** Whether an entry of the catalog may be removed if it is missing from the file. */
  readonly isPrunable: (entry: Entry) => boolean;
  /** Whether to register unchanged entries too, so that they move to this lease. */
  readonly claimsUnchanged: boolean;
  /** Additional fields of the JSON document. */
  readonly facts?: Readonly<Record<string, unknown>>;
}

/** Carries out a transfer and prints its document. */
export async function carryOut(
  transfer: EntryTransfer,
  { client, out }: { readonly client: () => ClientCalls; readonly out: CommandOutput },
): Promise<ExitCode> {
  const { file, problems, isPartial, isDryRun } = transfer;
  for (const { line, message } of problems.slice(0, MAX_REPORTED)) out.error(`${file}:${line}: ${message}`);
  if (problems.length > MAX_REPORTED) out.error(`${file}: ${counted(problems.length - MAX_REPORTED, "more problem")}`);
  if (problems.length > 0 && !isPartial) {
    out.error(
      `nothing was applied: the input has ${counted(problems.length, "problem")}; fix the input, or add --partial to apply the rest`,
    );
    if (out.isMachine) print([], transfer, { out, leaseId: "", isApplied: false });
    return EXIT.failed;
  }
  const { changes, leaseId } = await perform(transfer, client());
  print(changes, transfer, { out, leaseId, isApplied: !isDryRun });
  return problems.length > 0 ? EXIT.failed : EXIT.done;
}

/** Maximum number of reported problems, as for policy files. */
const MAX_REPORTED = 1000;

type TransferResult = Pick<EntryTransfer, "file" | "entries" | "namespaces" | "isPrunable" | "isDryRun" | "claimsUnchanged">;

/** Compares with the catalog, then registers and removes, except in a dry run. `leaseId` is empty if no lease was needed. */
export async function perform(
  transfer: TransferResult,
  client: ClientCalls,
): Promise<{ readonly changes: readonly TransferChange[]; readonly leaseId: string }> {
  const { held, nodeId } = await readHeld(client, transfer.namespaces);
  const wanted = transfer.entries.map(({ entry }) => entry);
  const changes = diffEntries(wanted, held, { isOwned: transfer.isPrunable, movesTo: transfer.claimsUnchanged ? nodeId : undefined });
  const leaseId = transfer.isDryRun ? "" : await apply(transfer, changes, client);
  return { changes, leaseId };
}

/** Reads this cluster's entries and the ID of the serving node. The same keys may exist in other clusters. */
async function readHeld(
  client: ClientCalls,
  namespaces: EntryTransfer["namespaces"],
): Promise<{ readonly held: readonly Entry[]; readonly nodeId?: string }> {
  if (namespaces.length === 0) return { held: [] };
  const { clusterId, nodeId } = await client.call(DiscoveryService.method.serverInfo, {});
  const held: Entry[] = [];
  for (const filter of namespaces) held.push(...(await readAll(client, { ...filter, clusterId })));
  return { held, nodeId };
}

const MAX_BATCH_ITEMS = 1000;
const MAX_BATCH_BYTES = 3 * 1024 * 1024;

/** Registers new and changed entries, and removes others. Returns the id of the lease; empty if no lease was needed. */
async function apply(
  { file, entries, claimsUnchanged }: TransferResult,
  changes: readonly TransferChange[],
  client: ClientCalls,
): Promise<string> {
  const wanted = changes.filter(({ action }) => action !== "remove" && (claimsUnchanged || action !== "unchanged"));
  const placeOf = new Map(entries.map(({ entry, place }) => [entry, place]));
  let leaseId = "";
  await sendAll(wanted, {
    field: "entries",
    sizeOf: ({ entry }) => toBinary(EntrySchema, entry).length,
    nameOf: ({ entry }) => `${file}:${placeOf.get(entry)?.line() ?? 0}`,
    send: async (batch) => {
      const request = { entries: batch.map(({ entry }) => entry), ...(leaseId === "" ? { staticLease: true } : { leaseId }) };
      ({ leaseId } = await client.call(DiscoveryService.method.register, request));
    },
  });
  await sendAll(
    changes.flatMap(({ action, entry }) => (action === "remove" && entry.key ? [entry.key] : [])),
    {
      field: "keys",
      sizeOf: (key) => toBinary(EntryKeySchema, key).length,
      nameOf: keyWords,
      send: async (keys) => void (await client.call(DiscoveryService.method.unregister, { keys: [...keys] })),
    },
  );
  return leaseId;
}

interface BatchSending<T> {
  /** The name of the request field that contains the items, as it appears in error paths. */
  readonly field: string;
  readonly sizeOf: (item: T) => number;
  /** The name of an item, used in messages. */
  readonly nameOf: (item: T) => string;
  readonly send: (batch: readonly T[]) => Promise<void>;
}

/** Sends all items in as many requests as needed. If the server rejects a request as too large, halves the size of later requests. */
async function sendAll<T>(items: readonly T[], sending: BatchSending<T>): Promise<void> {
  let most = MAX_BATCH_ITEMS;
  let sent = 0;
  while (sent < items.length) {
    const batch = batchOf(items.slice(sent, sent + most), sending.sizeOf);
    try {
      await sending.send(batch);
      sent += batch.length;
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      if (batch.length === 1 || !isTooMuch(error, sending.field)) throw named(error, batch, sending);
      most = Math.ceil(batch.length / 2);
    }
  }
}

/** Returns the first items that fit into a request, but at least one. */
function batchOf<T>(items: readonly T[], sizeOf: (item: T) => number): readonly T[] {
  let sizeBytes = 0;
  const end = items.findIndex((item, at) => {
    sizeBytes += sizeOf(item) + 8;
    return at > 0 && sizeBytes > MAX_BATCH_BYTES;
  });
  return end < 0 ? items : items.slice(0, end);
}

/** Whether the server would accept a smaller request: fewer items, or fewer bytes. */
function isTooMuch({ facts }: RequestError, field: string): boolean {
  return facts.metadata["max_bytes"] !== undefined || facts.violations.some((violation) => violation.field === field);
}

/** Returns the error with item names in place of their indexes in the request. */
function named<T>({ message, facts, cause }: RequestError, batch: readonly T[], { field, nameOf }: BatchSending<T>): RequestError {
  const rename = (text: string): string =>
    text.replaceAll(new RegExp(`\\b${field}\\[(\\d+)\\](\\.)?`, "g"), (path, index, dot) => {
      const item = batch[Number(index)];
      return item === undefined ? path : `${nameOf(item)}${dot === undefined ? "" : ": "}`;
    });
  const violations = facts.violations.map((violation) => ({ ...violation, field: rename(violation.field) }));
  return new RequestError(rename(message), { ...facts, violations }, cause);
}

interface TransferOutput {
  readonly out: CommandOutput;
  readonly leaseId: string;
  readonly isApplied: boolean;
}

function print(
  changes: readonly TransferChange[],
  { problems, isDryRun, facts }: EntryTransfer,
  { out, leaseId, isApplied }: TransferOutput,
): void {
  const counts = { create: 0, update: 0, move: 0, remove: 0, unchanged: 0 };
  for (const { action } of changes) counts[action] += 1;
  const json = {
    applied: isApplied,
    dryRun: isDryRun,
    leaseId,
    counts,
    changes: changes.map(({ action, entry, fields }) => ({ action, key: keyJson(entry.key), fields })),
    problems: problems.slice(0, MAX_REPORTED),
    ...facts,
  };
  out.document(json, {
    columns: [
      { title: "ACTION", text: ({ action }) => action },
      { title: "ENTRY", text: ({ entry }) => keyWords(entry.key) },
      { title: "FIELDS", text: ({ fields }) => fields.join(", ") },
    ],
    // The table shows only changes. The note contains the number of unchanged entries.
    whenEmpty: "",
    rows: out.format === "wide" ? changes : changes.filter(({ action }) => action !== "unchanged"),
  });
  const moved = counts.move === 0 ? "" : `${counts.move} moved from other nodes, `;
  const words = `${counts.create} created, ${counts.update} updated, ${moved}${counts.remove} removed, ${counts.unchanged} unchanged`;
  out.note(isDryRun ? `dry run, nothing was changed: ${words}` : words);
}

function keyJson(key: MessageShape<typeof EntryKeySchema> | undefined): unknown {
  return key === undefined ? {} : messageJson(EntryKeySchema, key);
}

type TransferAction = "create" | "update" | "move" | "remove" | "unchanged";

interface TransferChange {
  readonly action: TransferAction;
  /** The entry in the file or, for a removal, the entry in the catalog. */
  readonly entry: Entry;
  /** The fields that differ, for an update. */
  readonly fields: readonly string[];
}

interface DiffRules {
  /** Whether a held entry may be removed. */
  readonly isOwned: (entry: Entry) => boolean;
  /** The node to which other nodes' unchanged entries move, or undefined if they do not move. */
  readonly movesTo: string | undefined;
}

/** Returns the changes in key order. */
function diffEntries(wanted: readonly Entry[], held: readonly Entry[], { isOwned, movesTo }: DiffRules): readonly TransferChange[] {
  const heldByKey = new Map(held.map((entry) => [keyOf(entry), entry]));
  const wantedKeys = new Set(wanted.map(keyOf));
  const changes = wanted.map((entry): TransferChange => {
    const before = heldByKey.get(keyOf(entry));
    if (before === undefined) return { action: "create", entry, fields: [] };
    const fields = differingFields(entry, before);
    if (fields.length > 0) return { action: "update", entry, fields };
    return { action: movesTo === undefined || before.nodeId === movesTo ? "unchanged" : "move", entry, fields };
  });
  for (const [key, entry] of heldByKey) {
    if (!wantedKeys.has(key) && isOwned(entry)) changes.push({ action: "remove", entry, fields: [] });
  }
  return changes.toSorted((a, b) => (keyOf(a.entry) < keyOf(b.entry) ? -1 : 1));
}

/** Fields that are set by the server or are not part of the content. */
const STAMPED = [
  "key",
  "clusterId",
  "region",
  "nodeId",
  "tenantId",
  "registeredAt",
  "updatedAt",
  "load",
  "registeredByAdmin",
  "reportedHealth",
  "checkStates",
  "maintenance",
];

function differingFields(wanted: Entry, held: Entry): readonly string[] {
  // The health of an entry with checks is the worst of its reported health and its check results.
  const [a, b] = [content(wanted, wanted.health), content(held, held.reportedHealth || held.health)];
  // If these fields are absent, the server sets them.
  if (wanted.zone === "") b.delete("zone");
  if (wanted.ttl === undefined) b.delete("ttl");
  return [...new Set([...a.keys(), ...b.keys()])].filter((name) => a.get(name) !== b.get(name));
}

/** Maps each field to its canonical text, with the defaults that the server would store. */
function content(entry: Entry, health: HealthStatus): Map<string, string> {
  const full = clone(EntrySchema, entry);
  full.health = health;
  if (full.scope === Scope.UNSPECIFIED) full.scope = Scope.ZONE;
  if (full.health === HealthStatus.UNSPECIFIED || full.health === HealthStatus.ORPHANED) full.health = HealthStatus.HEALTHY;
  for (const target of full.targets) target.protocol = protocolWord(target.protocol);
  full.metadata = Object.fromEntries(Object.entries(full.metadata).toSorted(([a], [b]) => (a < b ? -1 : 1)));
  const json: JsonValue = toJson(EntrySchema, full);
  const fields = Object.entries(typeof json === "object" && json !== null ? json : {}).map(
    ([name, value]) => [name, JSON.stringify(value)] as const,
  );
  // An empty detail contains no more information than the kind in the key.
  return new Map(fields.filter(([name, value]) => !STAMPED.includes(name) && value !== "{}"));
}

/** Reads all entries that match a filter, in pages of the maximum size. */
export async function readAll(client: ClientCalls, filter: MessageInitShape<typeof CatalogQueryRequestSchema>): Promise<readonly Entry[]> {
  const entries: Entry[] = [];
  const read = (pageToken: string) => client.call(DiscoveryService.method.catalogQuery, { ...filter, limit: MAX_PAGE, pageToken });
  for await (const { items } of pagesOf(read)) entries.push(...items);
  return entries;
}

/** From a file's entries to the catalog: problems, the difference, registration under one static lease, removal. */
import { type MessageShape, toBinary } from "@bufbuild/protobuf";
import { type Entry, EntryKeySchema, EntrySchema } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { DiscoveryService } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import type { Client } from "../../client/client.ts";
import { RequestError } from "../../client/request-error.ts";
import type { LineProblem } from "../../lib/documents.ts";
import { EXIT, type Exit } from "../exit.ts";
import { messageJson } from "../message-json.ts";
import type { Output } from "../output.ts";
import { keyWords } from "../words.ts";
import { type Change, diffEntries } from "./diff.ts";
import type { FileEntry } from "./file.ts";
import { readAll } from "./read-all.ts";

export interface Transfer {
  /** Name of the input, for messages. */
  readonly file: string;
  readonly entries: readonly FileEntry[];
  readonly problems: readonly LineProblem[];
  /** Apply what is good although there are problems. */
  readonly isPartial: boolean;
  readonly isDryRun: boolean;
  /** Namespaces to compare with: exactly these, or those below a prefix. */
  readonly namespaces: readonly ({ readonly namespace: string } | { readonly namespacePrefix: string })[];
  /** Held entries that may be removed when they are not wanted any more. */
  readonly isPrunable: (entry: Entry) => boolean;
  /** Register entries that are already held alike too, so that they move under this lease. */
  readonly claimsUnchanged: boolean;
  /** More facts for the JSON document. */
  readonly facts?: Readonly<Record<string, unknown>>;
}

/** Carries a transfer out and prints the one document about it. */
export async function carryOut(
  transfer: Transfer,
  { client, out }: { readonly client: () => Client; readonly out: Output },
): Promise<Exit> {
  const { file, problems, isPartial, isDryRun } = transfer;
  for (const { line, message } of problems) out.error(`${file}:${line}: ${message}`);
  if (problems.length > 0 && !isPartial) {
    out.error(
      `nothing was applied, because of ${problems.length} problem${problems.length === 1 ? "" : "s"}; fix them, or use --partial to apply the rest`,
    );
    if (out.isMachine) print([], transfer, { out, leaseId: "", isApplied: false });
    return EXIT.failed;
  }
  const { changes, leaseId } = await perform(transfer, client());
  print(changes, transfer, { out, leaseId, isApplied: !isDryRun });
  return problems.length > 0 ? EXIT.failed : EXIT.done;
}

type Performed = Pick<Transfer, "file" | "entries" | "namespaces" | "isPrunable" | "isDryRun" | "claimsUnchanged">;

/** Compares with the catalog and, unless it is a dry run, registers and removes. `leaseId` is empty when no lease was needed. */
export async function perform(
  transfer: Performed,
  client: Client,
): Promise<{ readonly changes: readonly Change[]; readonly leaseId: string }> {
  const { held, nodeId } = await readHeld(client, transfer.namespaces);
  const wanted = transfer.entries.map(({ entry }) => entry);
  const changes = diffEntries(wanted, held, { isOwned: transfer.isPrunable, movesTo: transfer.claimsUnchanged ? nodeId : undefined });
  const leaseId = transfer.isDryRun ? "" : await apply(transfer, changes, client);
  return { changes, leaseId };
}

/** What this cluster holds of its own, and the node that says so; the same key may live in other clusters too. */
async function readHeld(
  client: Client,
  namespaces: Transfer["namespaces"],
): Promise<{ readonly held: readonly Entry[]; readonly nodeId?: string }> {
  if (namespaces.length === 0) return { held: [] };
  const { clusterId, nodeId } = await client.call(DiscoveryService.method.serverInfo, {});
  const held: Entry[] = [];
  for (const filter of namespaces) held.push(...(await readAll(client, { ...filter, clusterId })));
  return { held, nodeId };
}

const MAX_BATCH_ITEMS = 1000;
const MAX_BATCH_BYTES = 3 * 1024 * 1024;

/** Registers what is new or differs, removes what is to go; returns the lease's id, empty when nothing needed one. */
async function apply({ file, entries, claimsUnchanged }: Performed, changes: readonly Change[], client: Client): Promise<string> {
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

interface Sending<T> {
  /** The field of the request that has the items, as a refusal names it. */
  readonly field: string;
  readonly sizeOf: (item: T) => number;
  /** What a person calls the item. */
  readonly nameOf: (item: T) => string;
  readonly send: (batch: readonly T[]) => Promise<void>;
}

/** Sends all items in as many requests as it takes: half as much in each from then on, when the server takes less in one. */
async function sendAll<T>(items: readonly T[], sending: Sending<T>): Promise<void> {
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

/** As many of the first items as fit into a request, one at least. */
function batchOf<T>(items: readonly T[], sizeOf: (item: T) => number): readonly T[] {
  let sizeBytes = 0;
  const end = items.findIndex((item, at) => {
    sizeBytes += sizeOf(item) + 8;
    return at > 0 && sizeBytes > MAX_BATCH_BYTES;
  });
  return end < 0 ? items : items.slice(0, end);
}

/** Whether the server would take less in one request: fewer items, or fewer bytes. */
function isTooMuch({ facts }: RequestError, field: string): boolean {
  return facts.metadata["max_bytes"] !== undefined || facts.violations.some((violation) => violation.field === field);
}

/** The refusal with the names of items: it has their places in a request, which nobody sees. */
function named<T>({ message, facts, cause }: RequestError, batch: readonly T[], { field, nameOf }: Sending<T>): RequestError {
  const rename = (text: string): string =>
    text.replaceAll(new RegExp(`\\b${field}\\[(\\d+)\\](\\.)?`, "g"), (path, index, dot) => {
      const item = batch[Number(index)];
      return item === undefined ? path : `${nameOf(item)}${dot === undefined ? "" : ": "}`;
    });
  const violations = facts.violations.map((violation) => ({ ...violation, field: rename(violation.field) }));
  return new RequestError(rename(message), { ...facts, violations }, cause);
}

interface Printed {
  readonly out: Output;
  readonly leaseId: string;
  readonly isApplied: boolean;
}

function print(changes: readonly Change[], { problems, isDryRun, facts }: Transfer, { out, leaseId, isApplied }: Printed): void {
  const counts = { create: 0, update: 0, move: 0, remove: 0, unchanged: 0 };
  for (const { action } of changes) counts[action] += 1;
  const json = {
    applied: isApplied,
    dryRun: isDryRun,
    leaseId,
    counts,
    changes: changes.map(({ action, entry, fields }) => ({ action, key: keyJson(entry.key), fields })),
    problems,
    ...facts,
  };
  out.document(json, {
    columns: [
      { title: "ACTION", stored: ({ action }) => action },
      { title: "ENTRY", stored: ({ entry }) => keyWords(entry.key) },
      { title: "FIELDS", stored: ({ fields }) => fields.join(", ") },
    ],
    // A person wants to know what changes; how much stays is in the note.
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

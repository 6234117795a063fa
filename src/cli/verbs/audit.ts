/** Verbs that list, follow and verify the audit log. */

import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { AuditService, type AuditServiceWatchRequestSchema } from "../../../gen/waymark/control/v1/audit_pb.js";
import {
  AuditFault,
  AuditKind,
  AuditOutcome,
  type AuditRecord,
  AuditRecordSchema,
  PolicyService,
} from "../../../gen/waymark/policy/v1/policy_pb.js";
import type { ClientCalls } from "../../client/calls.ts";
import { RequestError } from "../../client/request-error.ts";
import { enumWord } from "../../lib/enum-words.ts";
import { askNodes, clusterNodes } from "../cluster-nodes.ts";
import type { ChainReading } from "../environment.ts";
import { readInput, sleep } from "../environment.ts";
import { EXIT, UsageError } from "../exit.ts";
import type { Flags } from "../flags.ts";
import { timeText, wholeJson } from "../messages.ts";
import { factTable, type TableColumn } from "../output.ts";
import { limitOf, noteMore, readPages } from "../pages.ts";
import { followStream } from "../streams.ts";
import type { VerbContext, VerbFunction } from "../table/verb.ts";

const DEFAULT_COUNT = 100;
/** Difference between the clocks of two nodes up to which a watch that continues in another log loses no records. */
const CLOCKS_APART_MS = 60_000;
/** How often a watch of all nodes looks for nodes that have joined, or that have another address. */
const FIND_NODES_MS = 30_000;
/** Slightly below the maximum string length of V8. */
const MAX_LOG_BYTES = 384 * 1024 * 1024;

/** Returns `--since` and `--until` as fields of a request. */
function timesOf(flags: Flags) {
  const now = Date.now();
  const [sinceMs, untilMs] = [flags.pastMs("since", now), flags.pastMs("until", now)];
  if (sinceMs !== undefined && untilMs !== undefined && untilMs <= sinceMs)
    throw new UsageError(`--until ${flags.text("until")} must be later than --since ${flags.text("since")}`);
  return {
    ...(sinceMs !== undefined && { since: timestampFromMs(sinceMs) }),
    ...(untilMs !== undefined && { until: timestampFromMs(untilMs) }),
  };
}

type AuditSearch = ReturnType<typeof searchOf>;

/** The flags that are fields of the request of the same name. */
const FIELD_FLAGS = ["entry", "lease", "node", "principal", "tenant", "namespace", "action", "reason", "ticket", "text"] as const;

/** Removes the prefix with which the column SUBJECTS shows leases and nodes, because users copy it. */
const bare = (name: string, text = "") => (/^(lease|node):/.exec(text)?.[1] === name ? text.slice(name.length + 1) : text);

function searchOf(flags: Flags) {
  const fields = Object.fromEntries(FIELD_FLAGS.map((name) => [name, bare(name, flags.text(name))]));
  const [kinds, outcomes] = [[flags.enum("kind", AuditKind)], [flags.enum("outcome", AuditOutcome)]];
  return { ...fields, kinds: kinds.filter(Boolean), outcomes: outcomes.filter(Boolean), ...timesOf(flags) };
}

/** A record, and the node in whose log it is. The node is empty without `--all-nodes`. */
interface ShownRecord extends AuditRecord {
  readonly node: string;
}

const AUDIT_COLUMNS: readonly TableColumn<AuditRecord>[] = [
  { title: "NUMBER", text: ({ number }) => String(number) },
  { title: "AT", text: ({ at }) => timeText(at) },
  { title: "KIND", isWide: true, text: ({ kind }) => enumWord(AuditKind, kind) },
  { title: "PRINCIPAL", text: ({ principal }) => (principal === "" ? "-" : principal) },
  { title: "TENANT", isWide: true, text: ({ tenant }) => tenant },
  { title: "SOURCE", text: ({ source }) => source },
  { title: "ACTION", text: ({ action }) => action },
  { title: "NAMESPACE", text: ({ namespace }) => namespace },
  { title: "OUTCOME", text: ({ outcome }) => enumWord(AuditOutcome, outcome) },
  { title: "REASON", text: ({ reason }) => reason },
  { title: "RULE", isWide: true, text: ({ rule }) => rule },
  { title: "TOKEN", isWide: true, text: ({ tokenId }) => tokenId },
  { title: "TICKET", isWide: true, text: ({ ticket }) => ticket },
  { title: "BEFORE", isWide: true, text: ({ before }) => before.slice(0, 12) },
  { title: "AFTER", isWide: true, text: ({ after }) => after.slice(0, 12) },
  { title: "SUBJECTS", text: ({ subjects }) => subjectsText(subjects) },
  { title: "DETAIL", text: ({ detail }) => detail },
];

/** Maximum number of subjects in a table row. `-o json` shows all of them. */
const SHOWN_SUBJECTS = 3;

function subjectsText(subjects: readonly string[]): string {
  const moreCount = subjects.length - SHOWN_SUBJECTS;
  return [...subjects.slice(0, SHOWN_SUBJECTS), ...(moreCount > 0 ? [`and ${moreCount} more`] : [])].join(", ");
}

const NODE_COLUMN: TableColumn<ShownRecord> = { title: "NODE", text: ({ node }) => node };

function table(rows: readonly ShownRecord[], hasNodes: boolean) {
  return { columns: hasNodes ? [NODE_COLUMN, ...AUDIT_COLUMNS] : AUDIT_COLUMNS, rows };
}

function recordJson({ node, ...record }: ShownRecord) {
  const json = wholeJson(AuditRecordSchema, record);
  return node === "" ? json : { node, ...json };
}

export const policyAudit: VerbFunction = async ({ flags, out, client }) => {
  const principal = flags.text("principal") ?? "";
  await onePage(flags, out, (page) => client().call(PolicyService.method.policyAudit, { principal, ...timesOf(flags), ...page }));
};

export const accessAudit: VerbFunction = async ({ flags, out, client }) => {
  const [principal = "", namespace = "", reason = ""] = [flags.text("principal"), flags.text("namespace"), flags.text("reason")];
  const query = { principal, namespace, reason, ...timesOf(flags) };
  await onePage(flags, out, (page) => client().call(PolicyService.method.accessAudit, { ...query, ...page }));
};

async function onePage(flags: Flags, out: VerbContext["out"], read: Parameters<typeof readPages<"records", AuditPage>>[2]): Promise<void> {
  const page = await readPages(flags, ["records"], read, 0);
  const { records, nextPageToken } = page;
  const json = records.map((record) => wholeJson(AuditRecordSchema, record));
  out.document({ records: json, nextPageToken }, { columns: AUDIT_COLUMNS, rows: records });
  noteMore(out, page);
}

interface AuditPage {
  records: AuditRecord[];
  nextPageToken: string;
}

export const list: VerbFunction = async ({ flags, out, client }) => {
  const search = searchOf(flags);
  const hasNodes = flags.isOn("allNodes");
  const { list: method } = AuditService.method;
  const readAt = (server: string | undefined) => {
    const read = (page: { readonly limit: number; readonly pageToken: string }) =>
      server === undefined ? client().call(method, { ...search, ...page }) : client().callAt(server, method, { ...search, ...page });
    return readPages(flags, ["records"], read, DEFAULT_COUNT);
  };
  const { answers, failed } = hasNodes
    ? await askNodes(await clusterNodes(client()), readAt)
    : { answers: [{ node: "", answer: await readAt(undefined) }], failed: [] };
  const found = answers.flatMap(({ node, answer }) => answer.records.map((record): ShownRecord => ({ ...record, node })));
  const newestFirst = (a: ShownRecord, b: ShownRecord) => wallMs(b) - wallMs(a);
  const records = (hasNodes ? found.toSorted(newestFirst) : found).slice(0, limitOf(flags) ?? DEFAULT_COUNT);
  out.document({ records: records.map(recordJson), ...(hasNodes && { failed }) }, table(records, hasNodes));
  for (const { node, error } of failed) out.error(`${node} did not answer: ${error}`);
  return failed.length === 0 ? EXIT.done : EXIT.failed;
};

export const watch: VerbFunction = async (context) => {
  const { environment, flags, out, client } = context;
  const most = flags.count("count", Number.MAX_SAFE_INTEGER) ?? Number.POSITIVE_INFINITY;
  const search = searchOf(flags);
  const hasNodes = flags.isOn("allNodes");
  const done = new AbortController();
  const interrupt = AbortSignal.any([environment.interrupt, done.signal]);
  const servers = new Map<string, string | undefined>();
  const stoppable = { ...context, servers, environment: { ...environment, interrupt } };
  let printed = 0;
  const printAll = async (node: string, from: AuditSearch) => {
    for await (const record of recordsOf(stoppable, from, node)) {
      if (printed >= most) return;
      const shown = { ...record, node };
      out.line(recordJson(shown), table([shown], hasNodes));
      printed += 1;
      if (printed >= most) done.abort();
    }
  };
  if (!hasNodes) await printAll("", search);
  const late = { since: timestampFromMs(Date.now()), ...search };
  const streams: Promise<void>[] = [];
  for (let from: AuditSearch = search; !interrupt.aborted; from = late) {
    const nodes = await clusterNodes(client()).catch((error: unknown) => {
      if (from === late && error instanceof RequestError) return [];
      throw error;
    });
    for (const { nodeId, server = servers.get(nodeId), fault } of nodes) {
      const isFollowed = servers.get(nodeId) !== undefined;
      if (server === undefined && !servers.has(nodeId)) out.error(`${nodeId} is not followed: ${fault}`);
      servers.set(nodeId, server);
      if (!isFollowed && server !== undefined) streams.push(printAll(nodeId, from));
    }
    Promise.all(streams).catch(() => done.abort());
    await sleep(stoppable.environment, FIND_NODES_MS);
  }
  await Promise.all(streams);
  return [...servers.values()].includes(undefined) ? EXIT.failed : EXIT.done;
};

/** `servers`: the newest known address of each node. */
type WatchContext = VerbContext & { readonly servers: ReadonlyMap<string, string | undefined> };

/** Yields the records that match, as they are written, from one node at its newest address, or from any of the command's servers. */
async function* recordsOf(context: WatchContext, search: AuditSearch, node: string): AsyncGenerator<AuditRecord> {
  const { environment, out, client, servers } = context;
  let point = { afterNumber: 0n, afterHash: "" };
  const sinceMs = search.since === undefined ? 0 : timestampMs(search.since);
  let lastMs = Date.now();
  const of = node === "" ? "" : ` of ${node}`;
  const openAt = (request: MessageInitShape<typeof AuditServiceWatchRequestSchema>) => {
    const options = { signal: environment.interrupt };
    const { watch: method } = AuditService.method;
    const server = servers.get(node);
    return server === undefined ? client().stream(method, request, options) : client().streamAt(server, method, request, options);
  };
  async function* open() {
    try {
      yield* openAt({ ...search, ...point });
    } catch (error) {
      if (!(error instanceof RequestError && error.facts.code === "NOT_FOUND")) throw error;
      const since = timestampFromMs(Math.max(lastMs - CLOCKS_APART_MS, sinceMs));
      const why = "the server started a new log or deleted records, or another server answers";
      out.note(`the audit log${of} has changed: ${why}; printing its records since ${timeText(since)}; some may be repeated`);
      yield* openAt({ ...search, since });
    }
  }
  for await (const { records, number, hash } of followStream(context, open, node || undefined)) {
    point = { afterNumber: number, afterHash: hash };
    for (const record of records) lastMs = wallMs(record);
    yield* records;
  }
}

function wallMs({ at }: AuditRecord): number {
  return at === undefined ? 0 : timestampMs(at);
}

export const verify: VerbFunction = async ({ environment, args, flags, out, client }) => {
  const [file] = args;
  const known = knownFlag(flags.text("known"));
  if (file !== undefined && known !== undefined)
    throw new UsageError("--known applies only to the server's log: omit the file or the flag");
  const reading =
    file === undefined
      ? await askServer(client(), known)
      : await environment.verifyAudit(await readInput(environment, file, MAX_LOG_BYTES));
  const { isIntact, checked, firstNumber, lastNumber, lastHash, fault, faultNumber, detail } = reading;
  const json = { intact: isIntact, checked, firstNumber, lastNumber, lastHash, fault, faultNumber, detail };
  // The JSON has protobuf's form, whether the server or the command verified the log.
  const document = { ...json, fault: `AUDIT_FAULT_${isIntact ? "NONE" : fault.toUpperCase()}` };
  out.document(document, factTable(json));
  if (!isIntact) out.error(`audit log verification failed: ${fault} at record ${faultNumber}: ${detail}`);
  return isIntact ? EXIT.done : EXIT.failed;
};

interface KnownRecord {
  readonly knownNumber: bigint;
  readonly knownHash: string;
}

function knownFlag(text: string | undefined): KnownRecord | undefined {
  if (text === undefined) return undefined;
  const [, number, hash] = /^(\d{1,15}):([0-9a-f]{64})$/i.exec(text) ?? [];
  if (number === undefined || hash === undefined)
    throw new UsageError(`invalid --known ${text}: expected a number, a colon and 64 hexadecimal digits`);
  return { knownNumber: BigInt(number), knownHash: hash.toLowerCase() };
}

async function askServer(client: ClientCalls, known: KnownRecord | undefined): Promise<ChainReading> {
  const answer = await client.call(PolicyService.method.verifyAudit, known ?? {});
  return {
    isIntact: answer.intact,
    checked: Number(answer.checked),
    firstNumber: Number(answer.firstNumber),
    lastNumber: Number(answer.lastNumber),
    lastHash: answer.lastHash,
    fault: answer.intact ? "" : (AuditFault[answer.fault] ?? String(answer.fault)).toLowerCase(),
    faultNumber: Number(answer.faultNumber),
    detail: answer.detail,
  };
}

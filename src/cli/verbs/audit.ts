/** Verbs about the audit log: list, follow and verify. It is two logs, of access and of policy, in one chain. */

import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  AuditFault,
  AuditKind,
  AuditOutcome,
  type AuditRecord,
  AuditRecordSchema,
  PolicyService,
} from "../../../gen/waymark/policy/v1/policy_pb.js";
import type { Client } from "../../client/client.ts";
import { RequestError } from "../../client/request-error.ts";
import { enumWord } from "../../lib/enum-words.ts";
import type { ChainReading } from "../environment.ts";
import { readInput, sleep } from "../environment.ts";
import { EXIT, UsageError } from "../exit.ts";
import type { Flags } from "../flags.ts";
import { timeText, wholeJson } from "../messages.ts";
import { type Column, factTable } from "../output.ts";
import { limitOf, MAX_PAGE, noteMore, pagesOf, readPages } from "../pages.ts";
import type { Verb, VerbContext } from "../table/verb.ts";

const DEFAULT_COUNT = 100;
const DEFAULT_INTERVAL_MS = 1000;
const MIN_INTERVAL_MS = 100;
/** Records of the first page that each look asks for: more are rarely new. */
const FIRST_PAGE = 100;
/** A JavaScript string cannot be much longer. */
const MAX_LOG_BYTES = 384 * 1024 * 1024;

type AuditLog = "access" | "policy";

interface AuditQuery {
  readonly principal: string;
  /** Only the access log has these two. */
  readonly namespace: string;
  readonly reason: string;
  readonly sinceMs: number | undefined;
  readonly untilMs: number | undefined;
}

interface AuditPage {
  readonly records: AuditRecord[];
  nextPageToken: string;
}

/** The logs to read: the one that `--kind` names; the access log alone when a filter is given that only it has; else both. */
function logsOf(flags: Flags): readonly AuditLog[] {
  const kind = flags.text("kind");
  const isAccessOnly = flags.text("namespace") !== undefined || flags.text("reason") !== undefined;
  if (kind === "policy" && isAccessOnly) throw new UsageError("--kind policy: --namespace and --reason are for the access audit");
  if (kind === "access" || isAccessOnly) return ["access"];
  return kind === "policy" ? ["policy"] : ["access", "policy"];
}

function queryOf(flags: Flags, times: Pick<AuditQuery, "sinceMs" | "untilMs">): AuditQuery {
  return {
    principal: flags.text("principal") ?? "",
    namespace: flags.text("namespace") ?? "",
    reason: flags.text("reason") ?? "",
    ...times,
  };
}

async function readAuditPage(
  client: Client,
  log: AuditLog,
  { query, limit, pageToken }: { readonly query: AuditQuery; readonly limit: number; readonly pageToken: string },
): Promise<AuditPage> {
  const { principal, namespace, reason, sinceMs, untilMs } = query;
  const since = sinceMs === undefined ? {} : { since: timestampFromMs(sinceMs) };
  const until = untilMs === undefined ? {} : { until: timestampFromMs(untilMs) };
  const request = { limit, pageToken, principal, ...since, ...until };
  return log === "policy"
    ? client.call(PolicyService.method.policyAudit, request)
    : client.call(PolicyService.method.accessAudit, { ...request, namespace, reason });
}

/** The records of both logs, newest first: their numbers are places in one chain. */
function newestFirst(records: readonly AuditRecord[]): readonly AuditRecord[] {
  return records.toSorted((a, b) => Number(b.number - a.number));
}

const AUDIT_COLUMNS: readonly Column<AuditRecord>[] = [
  { title: "NUMBER", stored: ({ number }) => String(number) },
  { title: "AT", stored: ({ at }) => timeText(at) },
  { title: "KIND", isWide: true, stored: ({ kind }) => enumWord(AuditKind, kind) },
  { title: "PRINCIPAL", stored: ({ principal }) => (principal === "" ? "-" : principal) },
  { title: "TENANT", isWide: true, stored: ({ tenant }) => tenant },
  { title: "SOURCE", stored: ({ source }) => source },
  { title: "ACTION", stored: ({ action }) => action },
  { title: "NAMESPACE", stored: ({ namespace }) => namespace },
  { title: "OUTCOME", stored: ({ outcome }) => enumWord(AuditOutcome, outcome) },
  { title: "REASON", stored: ({ reason }) => reason },
  { title: "RULE", isWide: true, stored: ({ rule }) => rule },
  { title: "BEFORE", isWide: true, stored: ({ before }) => before.slice(0, 12) },
  { title: "AFTER", isWide: true, stored: ({ after }) => after.slice(0, 12) },
  { title: "DETAIL", stored: ({ detail }) => detail },
];

export const policyAudit: Verb = (context) => onePage(context, "policy");
export const accessAudit: Verb = (context) => onePage(context, "access");

async function onePage({ flags, out, client }: VerbContext, log: AuditLog): Promise<undefined> {
  const now = Date.now();
  const query = queryOf(flags, { sinceMs: flags.pastMs("since", now), untilMs: flags.pastMs("until", now) });
  const page = await readPages(flags, ["records"], (at) => readAuditPage(client(), log, { query, ...at }), "page");
  const { records, nextPageToken } = page;
  const json = records.map((record) => wholeJson(AuditRecordSchema, record));
  out.document({ records: json, nextPageToken }, table(records));
  noteMore(out, page);
}

function table(rows: readonly AuditRecord[]) {
  return { columns: AUDIT_COLUMNS, rows };
}

export const list: Verb = async ({ flags, out, client }) => {
  const now = Date.now();
  const query = queryOf(flags, { sinceMs: flags.pastMs("since", now), untilMs: flags.pastMs("until", now) });
  const count = limitOf(flags) ?? DEFAULT_COUNT;
  const found: AuditRecord[] = [];
  for (const log of logsOf(flags)) found.push(...(await readNewest(client(), log, { query, count })));
  const records = newestFirst(found).slice(0, count);
  out.document({ records: records.map((record) => wholeJson(AuditRecordSchema, record)) }, table(records));
};

/** The newest `count` records of a log, or as many as there are. */
async function readNewest(
  client: Client,
  log: AuditLog,
  { query, count }: { readonly query: AuditQuery; readonly count: number },
): Promise<readonly AuditRecord[]> {
  const found: AuditRecord[] = [];
  const left = () => Math.min(MAX_PAGE, Math.max(1, count - found.length));
  for await (const { records } of pagesOf((pageToken) => readAuditPage(client, log, { query, limit: left(), pageToken }))) {
    found.push(...records);
    if (found.length >= count) break;
  }
  return found;
}

export const watch: Verb = async ({ environment, flags, out, client }) => {
  const most = flags.count("count", Number.MAX_SAFE_INTEGER) ?? Number.POSITIVE_INFINITY;
  const intervalMs = flags.durationMs("interval") ?? DEFAULT_INTERVAL_MS;
  if (intervalMs < MIN_INTERVAL_MS) throw new UsageError(`--interval: at least ${MIN_INTERVAL_MS}ms`);
  const now = Date.now();
  const since = flags.pastMs("since", now);
  const query = queryOf(flags, { sinceMs: since, untilMs: undefined });
  const follower = new AuditFollower(client(), logsOf(flags), query);
  // Without --since, records that are there already are not told.
  if (since === undefined) await follower.skip();
  out.begun();
  for (let told = 0; !environment.interrupt.aborted; ) {
    for (const record of await patiently(() => follower.next(), out.note.bind(out))) {
      out.line(wholeJson(AuditRecordSchema, record), table([record]));
      told += 1;
      if (told >= most) return;
    }
    await sleep(environment, intervalMs);
  }
};

/** Waits for a server that is away for a while. A refusal ends the command. */
async function patiently(read: () => Promise<readonly AuditRecord[]>, note: (text: string) => void): Promise<readonly AuditRecord[]> {
  try {
    return await read();
  } catch (error) {
    if (!(error instanceof RequestError && error.isAway)) throw error;
    note(`the server is away: ${error.message}; asking again`);
    return [];
  }
}

/** Asks each log for the records that are newer than those it told last. */
class AuditFollower {
  readonly #client: Client;
  readonly #logs: readonly AuditLog[];
  readonly #query: AuditQuery;
  readonly #told = new Map<AuditLog, bigint>();

  constructor(client: Client, logs: readonly AuditLog[], query: AuditQuery) {
    this.#client = client;
    this.#logs = logs;
    this.#query = query;
  }

  /** Counts the records that are there as told. */
  async skip(): Promise<void> {
    for (const log of this.#logs) {
      const { records } = await readAuditPage(this.#client, log, { query: this.#query, limit: 1, pageToken: "" });
      this.#told.set(log, records[0]?.number ?? 0n);
    }
  }

  /** The new records, oldest first. */
  async next(): Promise<readonly AuditRecord[]> {
    const found = new Map<AuditLog, readonly AuditRecord[]>();
    for (const log of this.#logs) found.set(log, await this.#newer(log));
    // Only after all logs were read: when a read fails, the next call must find the records of the logs before it again.
    for (const [log, [newest]] of found) if (newest !== undefined) this.#told.set(log, newest.number);
    return newestFirst([...found.values()].flat()).toReversed();
  }

  async #newer(log: AuditLog): Promise<readonly AuditRecord[]> {
    const last = this.#told.get(log) ?? 0n;
    const found: AuditRecord[] = [];
    const read = (pageToken: string) =>
      readAuditPage(this.#client, log, { query: this.#query, limit: pageToken === "" ? FIRST_PAGE : MAX_PAGE, pageToken });
    for await (const { records } of pagesOf(read)) {
      const fresh = records.filter(({ number }) => number > last);
      found.push(...fresh);
      if (fresh.length < records.length) break;
    }
    return found;
  }
}

export const verify: Verb = async ({ environment, args, flags, out, client }) => {
  const [file] = args;
  const known = knownFlag(flags.text("known"));
  if (file !== undefined && known !== undefined) throw new UsageError("--known is about the server's log: leave out the file, or the flag");
  const reading =
    file === undefined
      ? await askServer(client(), known)
      : await environment.verifyAudit(await readInput(environment, file, MAX_LOG_BYTES));
  const { isIntact, checked, firstNumber, lastNumber, lastHash, fault, faultNumber, detail } = reading;
  const json = { intact: isIntact, checked, firstNumber, lastNumber, lastHash, fault, faultNumber, detail };
  // As protobuf has it in JSON, wherever the log was read.
  const told = { ...json, fault: `AUDIT_FAULT_${isIntact ? "NONE" : fault.toUpperCase()}` };
  out.document(told, factTable(json));
  if (!isIntact) out.error(`the audit log was changed: ${fault} at record ${faultNumber}: ${detail}`);
  return isIntact ? EXIT.done : EXIT.failed;
};

interface Known {
  readonly knownNumber: bigint;
  readonly knownHash: string;
}

function knownFlag(text: string | undefined): Known | undefined {
  if (text === undefined) return undefined;
  const [, number, hash] = /^(\d{1,15}):([0-9a-f]{64})$/i.exec(text) ?? [];
  if (number === undefined || hash === undefined) throw new UsageError(`--known ${text}: not a number, a colon and 64 hexadecimal digits`);
  return { knownNumber: BigInt(number), knownHash: hash.toLowerCase() };
}

async function askServer(client: Client, known: Known | undefined): Promise<ChainReading> {
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

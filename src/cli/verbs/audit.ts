/** Verbs that list, follow and verify the audit log. The audit log consists of two logs, access and policy, in one hash chain. */

import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
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
import { factTable, type TableColumn } from "../output.ts";
import { limitOf, MAX_PAGE, noteMore, pagesOf, readPages } from "../pages.ts";
import type { VerbContext, VerbFunction } from "../table/verb.ts";

const DEFAULT_COUNT = 100;
const DEFAULT_INTERVAL_MS = 1000;
const MIN_INTERVAL_MS = 100;
/** Page size of the first request of each poll. A poll rarely finds more than this number of new records. */
const FIRST_PAGE = 100;
/** Number of logs for which a watch remembers the newest record. */
const MAX_MARKS = 16;
/** Clock difference between two nodes up to which a watch does not lose records when it fails over. */
const CLOCKS_APART_MS = 60_000;
/** Slightly below the maximum string length of V8. */
const MAX_LOG_BYTES = 384 * 1024 * 1024;

type AuditLogKind = "access" | "policy";

/** Returns the logs to read: the log selected by `--kind`, only the access log if a filter applies only to it, or both. */
function logsOf(flags: Flags): readonly AuditLogKind[] {
  const kind = flags.text("kind");
  const isAccessOnly = flags.text("namespace") !== undefined || flags.text("reason") !== undefined;
  if (kind === "policy" && isAccessOnly)
    throw new UsageError("--namespace and --reason filter access records: omit them with --kind policy");
  if (kind === "access" || isAccessOnly) return ["access"];
  return kind === "policy" ? ["policy"] : ["access", "policy"];
}

type AuditQuery = ReturnType<typeof queryOf>;

/** Returns the filter for a request. Verbs without the `--until` flag have no end time. */
function queryOf(flags: Flags) {
  const now = Date.now();
  const [sinceMs, untilMs] = [flags.pastMs("since", now), flags.pastMs("until", now)];
  if (sinceMs !== undefined && untilMs !== undefined && untilMs <= sinceMs)
    throw new UsageError(`--until ${flags.text("until")} must be later than --since ${flags.text("since")}`);
  return {
    principal: flags.text("principal") ?? "",
    namespace: flags.text("namespace") ?? "",
    reason: flags.text("reason") ?? "",
    ...(sinceMs !== undefined && { since: timestampFromMs(sinceMs) }),
    ...(untilMs !== undefined && { until: timestampFromMs(untilMs) }),
  };
}

/** Requests for the policy log do not have a namespace or a reason. */
async function readAuditPage(
  client: Client,
  log: AuditLogKind,
  request: AuditQuery & { readonly limit: number; readonly pageToken: string },
) {
  const { policyAudit, accessAudit } = PolicyService.method;
  const { namespace: _namespace, reason: _reason, ...ofBoth } = request;
  return log === "policy" ? client.call(policyAudit, ofBoth) : client.call(accessAudit, request);
}

/** Returns the records of both logs, newest first. Their numbers are positions in the same hash chain. */
function newestFirst(records: readonly AuditRecord[]): readonly AuditRecord[] {
  return records.toSorted((a, b) => Number(b.number - a.number));
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

export const policyAudit: VerbFunction = (context) => onePage(context, "policy");
export const accessAudit: VerbFunction = (context) => onePage(context, "access");

async function onePage({ flags, out, client }: VerbContext, log: AuditLogKind): Promise<undefined> {
  const query = queryOf(flags);
  const page = await readPages(flags, ["records"], (at) => readAuditPage(client(), log, { ...query, ...at }), 0);
  const { records, nextPageToken } = page;
  const json = records.map((record) => wholeJson(AuditRecordSchema, record));
  out.document({ records: json, nextPageToken }, table(records));
  noteMore(out, page);
}

function table(rows: readonly AuditRecord[]) {
  return { columns: AUDIT_COLUMNS, rows };
}

export const list: VerbFunction = async ({ flags, out, client }) => {
  const query = queryOf(flags);
  const found: AuditRecord[] = [];
  for (const log of logsOf(flags)) {
    const read = (page: { limit: number; pageToken: string }) => readAuditPage(client(), log, { ...query, ...page });
    found.push(...(await readPages(flags, ["records"], read, DEFAULT_COUNT)).records);
  }
  const records = newestFirst(found).slice(0, limitOf(flags) ?? DEFAULT_COUNT);
  out.document({ records: records.map((record) => wholeJson(AuditRecordSchema, record)) }, table(records));
};

export const watch: VerbFunction = async ({ environment, flags, out, client }) => {
  const most = flags.count("count", Number.MAX_SAFE_INTEGER) ?? Number.POSITIVE_INFINITY;
  const intervalMs = flags.durationMs("interval") ?? DEFAULT_INTERVAL_MS;
  if (intervalMs < MIN_INTERVAL_MS)
    throw new UsageError(`invalid --interval ${flags.text("interval")}: expected at least ${MIN_INTERVAL_MS}ms`);
  const query = queryOf(flags);
  const note = out.note.bind(out);
  const follower = new AuditFollower({ client: client(), logs: logsOf(flags), query, note });
  // Without --since, existing records are not printed.
  if (query.since === undefined) await follower.skip();
  out.begun();
  for (let printed = 0; !environment.interrupt.aborted; ) {
    for (const record of await patiently(() => follower.next(), note)) {
      out.line(wholeJson(AuditRecordSchema, record), table([record]));
      printed += 1;
      if (printed >= most) return;
    }
    await sleep(environment, intervalMs);
  }
};

/** Reads records, but tolerates an unreachable server. Throws any other error. */
async function patiently(read: () => Promise<readonly AuditRecord[]>, note: (text: string) => void): Promise<readonly AuditRecord[]> {
  try {
    return await read();
  } catch (error) {
    if (!(error instanceof RequestError && error.isAway)) throw error;
    note(`server unreachable: ${error.message}; trying again`);
    return [];
  }
}

/** Result of polling one log. */
interface LogReading {
  /** Newest first. */
  readonly fresh: readonly AuditRecord[];
  readonly marks: readonly AuditRecord[];
  /** If this is not the log that was polled before, the start of the new records. Undefined if this is the same log. */
  readonly from: string | undefined;
}

interface FollowedLogs {
  readonly client: Client;
  readonly logs: readonly AuditLogKind[];
  readonly query: AuditQuery;
  readonly note: (text: string) => void;
}

/**
 * Polls each log for records that are newer than the last returned records. The log may be a different one that reuses the record numbers, because a
 * node that lost its data has started a new log or another node answers.
 */
class AuditFollower {
  readonly #of: FollowedLogs;
  /** The newest record of each log that a poll has found, with the most recent log first. A record's hash covers all records before it. */
  readonly #marks = new Map<AuditLogKind, readonly AuditRecord[]>();

  constructor(of: FollowedLogs) {
    this.#of = of;
  }

  /** Marks the existing records as returned. */
  async skip(): Promise<void> {
    const { client, logs, query } = this.#of;
    for (const log of logs) this.#marks.set(log, (await readAuditPage(client, log, { ...query, limit: 1, pageToken: "" })).records);
  }

  /** The new records, oldest first. */
  async next(): Promise<readonly AuditRecord[]> {
    const looks = new Map<AuditLogKind, LogReading>();
    for (const log of this.#of.logs) looks.set(log, await this.#look(log));
    // Set only after all logs have been read, so that a failed read does not lose records from previously read logs.
    for (const [log, { marks, from }] of looks) {
      this.#marks.set(log, marks);
      const why = "the server started a new log, or a different server answered";
      if (from !== undefined) this.#of.note(`the ${log} log has changed: ${why}; printing its records ${from}; some may be repeated`);
    }
    return newestFirst([...looks.values()].flatMap(({ fresh }) => fresh)).toReversed();
  }

  async #look(log: AuditLogKind): Promise<LogReading> {
    const marks = this.#marks.get(log) ?? [];
    const [last] = marks;
    const oldestMs = Math.min(...marks.map(wallMs));
    const isBefore = ({ number }: AuditRecord) => last !== undefined && number <= last.number;
    const found: AuditRecord[] = [];
    let known: AuditRecord | undefined;
    const { client, query } = this.#of;
    const read = (pageToken: string) =>
      readAuditPage(client, log, { ...query, limit: pageToken === "" ? FIRST_PAGE : MAX_PAGE, pageToken });
    for await (const { records } of pagesOf(read)) {
      const at = records.findIndex((record) => marks.some((mark) => isSame(mark, record)));
      known = records[at];
      found.push(...(known === undefined ? records : records.slice(0, at)));
      if (known !== undefined || records.some((record) => isBefore(record) && wallMs(record) < oldestMs - CLOCKS_APART_MS)) break;
    }
    const isOther = last !== undefined && (known === undefined ? found.some(isBefore) : !isSame(known, last));
    // In a log that has never been polled, records that are older than the last returned record are not new.
    const fromMs = isOther && known === undefined ? wallMs(last) - CLOCKS_APART_MS : Number.NEGATIVE_INFINITY;
    const replaced = isOther ? known : last;
    const others = marks.filter((mark) => replaced === undefined || !isSame(mark, replaced));
    const newest = found[0] ?? known ?? last;
    return {
      fresh: found.filter((record) => wallMs(record) >= fromMs),
      marks: newest === undefined ? [] : [newest, ...others].slice(0, MAX_MARKS),
      from: isOther ? (known === undefined ? `since ${new Date(fromMs).toISOString()}` : `after number ${known.number}`) : undefined,
    };
  }
}

function isSame(a: AuditRecord, b: AuditRecord): boolean {
  return a.number === b.number && a.hash === b.hash;
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

async function askServer(client: Client, known: KnownRecord | undefined): Promise<ChainReading> {
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

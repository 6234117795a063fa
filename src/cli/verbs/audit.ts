/** Verbs about the audit: list, follow and verify what was done and refused. */
import { type AuditRecord, AuditRecordSchema, PolicyService } from "../../../gen/waymark/policy/v1/policy_pb.js";
import type { Client } from "../../client/client.ts";
import { RequestError } from "../../client/request-error.ts";
import {
  AUDIT_COLUMNS,
  type AuditLog,
  type AuditPage,
  type AuditQuery,
  logsOf,
  newestFirst,
  queryOf,
  readAuditPage,
} from "../audit-pages.ts";
import type { ChainReading } from "../environment.ts";
import { EXIT, exitOf, UsageError } from "../exit.ts";
import { factTable } from "../facts.ts";
import { readInput } from "../input.ts";
import { wholeJson } from "../message-json.ts";
import { limitOf, MAX_PAGE, readPages } from "../pages.ts";
import { sleep } from "../pause.ts";
import type { Verb, VerbContext } from "../table/verb.ts";
import { pastFlag } from "../when.ts";
import { auditFaultWord } from "../words.ts";

const DEFAULT_COUNT = 100;
const DEFAULT_INTERVAL_MS = 1000;
const MIN_INTERVAL_MS = 100;
/** A string cannot be much longer. */
const MAX_LOG_BYTES = 384 * 1024 * 1024;

export const policyAudit: Verb = (context) => onePage(context, "policy");
export const accessAudit: Verb = (context) => onePage(context, "access");

async function onePage({ flags, out, client }: VerbContext, log: AuditLog): Promise<typeof EXIT.done> {
  const now = Date.now();
  const query = queryOf(flags, { since: pastFlag(flags, "since", now), until: pastFlag(flags, "until", now) });
  const paging = {
    read: (page: { limit: number; pageToken: string }) => readAuditPage(client(), log, { query, ...page }),
    join: (all: AuditPage, next: AuditPage) => all.records.push(...next.records),
    count: (page: AuditPage) => page.records.length,
  };
  const { records, nextPageToken } = await readPages<AuditPage>(flags, paging, "page");
  const json = records.map((record) => wholeJson(AuditRecordSchema, record));
  out.document({ records: json, nextPageToken }, table(records));
  if (nextPageToken !== "" && !out.isMachine) out.note(`there is more; continue with --page-token ${nextPageToken}`);
  return EXIT.done;
}

function table(rows: readonly AuditRecord[]) {
  return { columns: AUDIT_COLUMNS, rows };
}

export const list: Verb = async ({ flags, out, client }) => {
  const now = Date.now();
  const query = queryOf(flags, { since: pastFlag(flags, "since", now), until: pastFlag(flags, "until", now) });
  const count = limitOf(flags) ?? DEFAULT_COUNT;
  const found: AuditRecord[] = [];
  for (const log of logsOf(flags)) found.push(...(await readNewest(client(), log, { query, count })));
  const records = newestFirst(found).slice(0, count);
  out.document({ records: records.map((record) => wholeJson(AuditRecordSchema, record)) }, table(records));
  return EXIT.done;
};

/** The newest `count` records of a log, or as many as there are. */
async function readNewest(
  client: Client,
  log: AuditLog,
  { query, count }: { readonly query: AuditQuery; readonly count: number },
): Promise<readonly AuditRecord[]> {
  const records: AuditRecord[] = [];
  let pageToken = "";
  do {
    const page = await readAuditPage(client, log, { query, limit: Math.min(MAX_PAGE, Math.max(1, count - records.length)), pageToken });
    records.push(...page.records);
    pageToken = page.nextPageToken;
  } while (pageToken !== "" && records.length < count);
  return records;
}

export const watch: Verb = async ({ environment, flags, out, client }) => {
  const most = flags.count("count", Number.MAX_SAFE_INTEGER) ?? Number.POSITIVE_INFINITY;
  const intervalMs = flags.durationMs("interval") ?? DEFAULT_INTERVAL_MS;
  if (intervalMs < MIN_INTERVAL_MS) throw new UsageError(`--interval: at least ${MIN_INTERVAL_MS}ms`);
  const now = Date.now();
  const since = pastFlag(flags, "since", now);
  const query = queryOf(flags, { since, until: undefined });
  const follower = new AuditFollower(client(), logsOf(flags), query);
  // Without --since, what is there already is not told.
  if (since === undefined) await follower.skip();
  out.begun();
  for (let told = 0; !environment.interrupt.aborted; ) {
    for (const record of await patiently(() => follower.next(), out.note.bind(out))) {
      out.line(wholeJson(AuditRecordSchema, record), table([record]));
      told += 1;
      if (told >= most) return EXIT.done;
    }
    await sleep(environment, intervalMs);
  }
  return EXIT.done;
};

/** A server that is away for a while is waited for; a refusal is not. */
async function patiently(read: () => Promise<readonly AuditRecord[]>, note: (text: string) => void): Promise<readonly AuditRecord[]> {
  try {
    return await read();
  } catch (error) {
    const isPassing = error instanceof RequestError && (exitOf(error) === EXIT.unreachable || error.facts.code === "UNAVAILABLE");
    if (!isPassing) throw error;
    note(`the server is away: ${error.message}; asking again`);
    return [];
  }
}

/** Asks each log for what is newer than what it told last. */
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

  /** Takes what is there as told. */
  async skip(): Promise<void> {
    for (const log of this.#logs) {
      const { records } = await readAuditPage(this.#client, log, { query: this.#query, limit: 1, pageToken: "" });
      this.#told.set(log, records[0]?.number ?? 0n);
    }
  }

  /** What is new, oldest first. */
  async next(): Promise<readonly AuditRecord[]> {
    const found: AuditRecord[] = [];
    for (const log of this.#logs) found.push(...(await this.#newer(log)));
    return newestFirst(found).toReversed();
  }

  async #newer(log: AuditLog): Promise<readonly AuditRecord[]> {
    const last = this.#told.get(log) ?? 0n;
    const found: AuditRecord[] = [];
    let pageToken = "";
    do {
      const page = await readAuditPage(this.#client, log, { query: this.#query, limit: pageToken === "" ? 100 : MAX_PAGE, pageToken });
      const fresh = page.records.filter(({ number }) => number > last);
      found.push(...fresh);
      pageToken = fresh.length < page.records.length ? "" : page.nextPageToken;
    } while (pageToken !== "");
    const [newest] = found;
    if (newest !== undefined) this.#told.set(log, newest.number);
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
  const json = {
    intact: isIntact,
    checked,
    firstNumber,
    lastNumber,
    lastHash,
    fault,
    faultNumber,
    detail,
  };
  // As protobuf has it in JSON, wherever the log was read.
  const told = { ...json, fault: `AUDIT_FAULT_${isIntact ? "NONE" : fault.toUpperCase()}` };
  out.document(told, factTable(json));
  if (!isIntact) out.error(`the audit log is not as it was written: ${fault} at record ${faultNumber}: ${detail}`);
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
    fault: auditFaultWord(answer.fault),
    faultNumber: Number(answer.faultNumber),
    detail: answer.detail,
  };
}

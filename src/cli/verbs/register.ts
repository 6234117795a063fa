/** Verbs that register, keep alive and unregister single entries. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import {
  type Check,
  type Entry,
  EntryKind,
  EntrySchema,
  HealthStatus,
  Scope,
  type TargetSchema,
} from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { DiscoveryService, RegisterResponseSchema, UnregisterResponseSchema } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { RequestError } from "../../client/request-error.ts";
import { backoffMs } from "../../lib/backoff.ts";
import { parseCheck } from "../entries/check-flag.ts";
import { sleep } from "../environment.ts";
import { EXIT, type ExitCode, UsageError } from "../exit.ts";
import type { Flags } from "../flags.ts";
import { messageJson } from "../messages.ts";
import type { VerbContext, VerbFunction } from "../table/verb.ts";
import { keyWords } from "../texts.ts";

const DEFAULT_KEEP_TTL_MS = 30_000;
const RETRY = { baseMs: 250, maxMs: 5000 } as const;

/** The flags that identify an entry together with its kind. */
const NAMES = ["namespace", "name", "instance"] as const;

function keyOf(flags: Flags) {
  const missing = NAMES.filter((name) => (flags.text(name) ?? "") === "");
  if (missing.length > 0) throw new UsageError(`missing: ${missing.map((name) => `--${name}`).join(", ")}`);
  return {
    kind: flags.enum("kind", EntryKind) || EntryKind.SERVICE,
    namespace: flags.text("namespace") ?? "",
    name: flags.text("name") ?? "",
    instanceId: flags.text("instance") ?? "",
  };
}

/** `host[:port][/protocol][,name=…][,weight=…][,priority=…]`; an IPv6 address is in brackets. */
export function parseTarget(text: string): MessageInitShape<typeof TargetSchema> {
  const [address = "", ...options] = text.split(",");
  const match = /^(?:\[(?<v6>[0-9A-Fa-f:.]+)\]|(?<host>[^[\]:/]+))(?::(?<port>\d{1,9}))?(?:\/(?<protocol>[^/]+))?$/.exec(address);
  const groups = match?.groups;
  const { port: digits } = groups ?? {};
  const port = Number(digits ?? 0);
  if (!groups) throw new UsageError(`invalid --target ${text}: expected host[:port][/protocol][,name=…][,weight=…][,priority=…]`);
  if (digits !== undefined && (port < 1 || port > 65_535))
    throw new UsageError(`invalid --target ${text}: expected a port from 1 to 65535, or no colon for a target without a port`);
  const extra: { name?: string; weight?: number; priority?: number } = {};
  for (const option of options) {
    const [key = "", value = ""] = option.split("=");
    const number = /^\d{1,5}$/.test(value) ? Number(value) : 65_536;
    if (Object.hasOwn(extra, key)) throw new UsageError(`invalid --target ${text}: ${key} is set twice`);
    if (key === "name") extra.name = value;
    else if ((key === "weight" || key === "priority") && number <= 65_535) extra[key] = number;
    else throw new UsageError(`invalid --target ${text}: expected name=…, weight=0…65535 or priority=0…65535 instead of ${option}`);
  }
  return { host: groups["v6"] ?? groups["host"] ?? "", port, protocol: groups["protocol"] ?? "", ...extra };
}

function entryOf(flags: Flags): Entry {
  const version = flags.text("versionLabel");
  const key = keyOf(flags);
  if (version !== undefined && key.kind !== EntryKind.FUNCTION) throw new UsageError("--version-label requires --kind function");
  return create(EntrySchema, {
    key,
    scope: flags.enum("scope", Scope),
    targets: flags.list("target").map(parseTarget),
    checks: flags.list("check").map(parseCheck),
    tags: [...flags.list("tag")],
    capabilities: [...flags.list("capability")],
    resources: [...flags.list("resource")],
    aliases: [...flags.list("alias")],
    metadata: flags.pairs("metadata"),
    zone: flags.text("zone") ?? "",
    health: flags.enum("health", HealthStatus),
    ...(version !== undefined && { detail: { case: "function" as const, value: { version } } }),
  });
}

export const register: VerbFunction = async (context) => {
  const { flags, out, client } = context;
  const entry = entryOf(flags);
  const isKept = flags.isOn("keep");
  const ttlMs = flags.durationMs("ttl") ?? (isKept ? DEFAULT_KEEP_TTL_MS : undefined);
  const request = ttlMs === undefined ? { entries: [entry], staticLease: true } : { entries: [entry], ttl: durationFromMs(ttlMs) };
  const answer = await client().call(DiscoveryService.method.register, request);
  const json = messageJson(RegisterResponseSchema, answer);
  out.document(json, {
    columns: [
      { title: "ENTRY", text: () => keyWords(entry.key) },
      { title: "LEASE", text: () => answer.leaseId },
      { title: "TTL", text: () => (answer.ttl === undefined ? "static" : `${durationMs(answer.ttl) / 1000}s`) },
    ],
    rows: [answer],
  });
  if (!isKept) return EXIT.done;
  out.note("registered; renewing the lease until interrupted");
  return keep(context, {
    request,
    leaseId: answer.leaseId,
    ttlMs: answer.ttl === undefined ? DEFAULT_KEEP_TTL_MS : durationMs(answer.ttl),
  });
};

interface KeptRegistration {
  readonly request: { readonly entries: Entry[] };
  readonly leaseId: string;
  readonly ttlMs: number;
}

/** Default interval for a `ttl` check. */
const CHECK_INTERVAL_MS = 10_000;

/**
 * Renews the lease after every third of its TTL, registers again if the lease has expired, and unregisters at the end. Each renewal also reports the
 * health for the entry's `ttl` checks, so the time between renewals is at most a third of their shortest interval.
 */
async function keep({ environment, out, client }: VerbContext, { request, ttlMs, leaseId: first }: KeptRegistration): Promise<ExitCode> {
  const { interrupt } = environment;
  let leaseId = first;
  let failures = 0;
  const intervals = request.entries.flatMap(({ checks }) => checks).flatMap(ttlIntervalMs);
  const reports = intervals.length === 0 ? [] : request.entries.flatMap(({ key }) => (key === undefined ? [] : [{ key }]));
  const everyMs = Math.min(ttlMs, ...intervals) / 3;
  while (!interrupt.aborted) {
    await sleep(environment, failures === 0 ? everyMs : backoffMs(failures - 1, Math.random(), RETRY));
    if (interrupt.aborted) break;
    try {
      const { expiredLeaseIds } = await client().call(DiscoveryService.method.renew, { leaseIds: [leaseId], reports });
      if (expiredLeaseIds.length > 0) {
        ({ leaseId } = await client().call(DiscoveryService.method.register, request));
        out.note(`the lease had expired; registered again under ${leaseId}`);
      }
      failures = 0;
    } catch (error) {
      if (!isPassing(error)) throw error;
      if (failures === 0) out.note(`renewal failed: ${error.message}; trying again`);
      failures += 1;
    }
  }
  await client().call(DiscoveryService.method.unregister, { leaseId });
  out.note("unregistered");
  return EXIT.done;
}

/** Returns the interval of a `ttl` check, or an empty list for other checks. */
function ttlIntervalMs({ probe, interval }: Check): readonly number[] {
  if (probe.case !== "ttl") return [];
  return [interval === undefined ? CHECK_INTERVAL_MS : durationMs(interval)];
}

/** Whether another attempt may succeed, because the server is unreachable or too busy to answer in time. */
function isPassing(error: unknown): error is RequestError {
  return error instanceof RequestError && (error.isAway || ["DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"].includes(error.facts.code));
}

export const unregister: VerbFunction = async ({ flags, out, client }) => {
  const leaseId = flags.text("lease");
  const isKeyed = NAMES.some((name) => flags.text(name) !== undefined);
  if (leaseId !== undefined && isKeyed) throw new UsageError("--lease cannot be combined with --namespace, --name or --instance");
  if (leaseId === undefined && !isKeyed)
    throw new UsageError("missing entry to remove: set --namespace, --name and --instance, or --lease");
  const request = leaseId === undefined ? { keys: [keyOf(flags)] } : { leaseId };
  const answer = await client().call(DiscoveryService.method.unregister, request);
  if (answer.removed > 0 || out.isMachine) {
    out.document(messageJson(UnregisterResponseSchema, answer), {
      columns: [{ title: "REMOVED", text: ({ removed }) => String(removed) }],
      rows: [answer],
    });
  }
  if (answer.removed > 0) return EXIT.done;
  const why =
    leaseId === undefined
      ? `the entry ${NAMES.map((name) => flags.text(name)).join("/")} does not exist`
      : `the lease ${leaseId} has no entries`;
  out.error(`nothing was removed: ${why}`);
  return EXIT.notFound;
};

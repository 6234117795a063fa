/**
 * The rules of requests: those of the contract, which `scripts/gen-codec.ts` writes from the protos and every request is checked by before its
 * handler sees it, and those that the contract cannot state.
 */
import type { DescMessage, Message } from "@bufbuild/protobuf";
import type { Duration } from "@bufbuild/protobuf/wkt";
import type { Entry } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { RegisterNameRequestSchema } from "../../gen/waymark/dns/v1/dns_pb.js";
import { REQUEST_CHECKS } from "../../gen/waymark/request_rules.ts";
import { type Bounds, PROTOCOL_BOUNDS } from "../catalog/entry/names.ts";
import { Problems } from "../catalog/entry/problems.ts";
import { plainName } from "../discovery/dns-names.ts";
import { invalid, WaymarkError } from "../lib/errors.ts";
import type { RefusedAct } from "../policy/audit/refusals.ts";
import { type Caller, hasRole } from "../policy/identity/caller.ts";

/** Requests whose names are registered, and therefore held to what the node allows its own clients. Those of Register are looked at by its handler. */
const REGISTERING: ReadonlySet<string> = new Set([RegisterNameRequestSchema.typeName]);

/**
 * The check of requests of this type at a node with these bounds. It throws `invalid_argument` with all faults. A request may ask for names as long as any node may
 * store, even if this node allows its own clients less. HOT: once a request; protovalidate takes 50 times as long.
 */
export function requestCheckOf({ typeName }: Pick<DescMessage, "typeName">, bounds: Bounds = PROTOCOL_BOUNDS): (request: Message) => void {
  const check = REQUEST_CHECKS.get(typeName);
  if (check === undefined) return () => {};
  const problems = new Problems(REGISTERING.has(typeName) ? bounds : PROTOCOL_BOUNDS);
  return (request) => {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the check is that of this type
    check(request as never, problems);
    problems.throwIfAny();
  };
}

const DEFAULT_BOOKMARK_MS = 10_000;

/** Longest label of a DNS name (RFC 1035, 2.3.4). */
const MAX_LABEL_LENGTH = 63;

/** Throws `invalid_argument` for an alias that cannot be a DNS name, and for two that are the same DNS name. Only new entries are checked. */
function checkNames(aliases: readonly string[], field: string): void {
  const known = new Map<string, number>();
  aliases.forEach((alias, i) => {
    const name = plainName(alias);
    if (!name.split(".").every((label) => label.length >= 1 && label.length <= MAX_LABEL_LENGTH))
      throw invalid(`${field}[${i}]`, `must have labels of 1 to ${MAX_LABEL_LENGTH} characters, with a dot between two`);
    const same = known.get(name);
    if (same !== undefined) throw invalid(`${field}[${i}]`, `is the same name in DNS as ${field}[${same}]`);
    known.set(name, i);
  });
}

/**
 * Throws `invalid_argument` for an alias that cannot be a DNS name. Throws `discovery_access_denied` for an alias of one label unless the
 * caller is an admin, because such a name stands above all namespaces.
 */
export function checkAliases(
  { aliases, key }: Pick<Entry, "aliases" | "key">,
  field: string,
  caller: Caller,
  rules: { readonly isSingle: (alias: string) => boolean; readonly onRefused: (refusal: RefusedAct) => void },
): void {
  checkNames(aliases, field);
  const at = hasRole(caller, "mesh.admin") ? -1 : aliases.findIndex(rules.isSingle);
  if (at < 0) return;
  const message = `${field}[${at}]: an alias of one label needs the role mesh.admin`;
  const error = new WaymarkError("discovery_access_denied", message, { metadata: { role: "mesh.admin" } });
  rules.onRefused({ caller, action: "register", namespace: key?.namespace ?? "", reason: error.reason, detail: error.message });
  throw error;
}

/** A Duration in ms, with fractions. */
export function durationMs({ seconds, nanos }: Duration): number {
  return Number(seconds) * 1000 + nanos / 1e6;
}

/** Time between two bookmarks of a watch. */
export function bookmarkMs(asked: Duration | undefined): number {
  return asked === undefined ? DEFAULT_BOOKMARK_MS : durationMs(asked);
}

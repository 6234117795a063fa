/** Parses the `--check` flag of `register`, which describes one check of an entry. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { KIND_WORDS } from "../../../gen/waymark/catalog/v1/entry_kinds.ts";
import { type CheckSchema, EntryKind } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { durationText, HOUR_MS, MINUTE_MS, parseDurationMs } from "../../lib/duration.ts";
import { enumValue } from "../../lib/enum-words.ts";
import { UsageError } from "../exit.ts";
import { CHECK_FLAG_KINDS, checkForms } from "../table/check-kinds.ts";
import { splitKey } from "../texts.ts";

type CheckInit = MessageInitShape<typeof CheckSchema>;

type CheckCase = NonNullable<NonNullable<CheckInit["probe"]>["case"]>;

/** The code does not compile if a kind in the contract has no row. */
const KINDS: Readonly<Record<CheckCase, { readonly form: string; readonly options: readonly string[] }>> = CHECK_FLAG_KINDS;

const MAX_LOOKS = 10;
const STATUS = /^([1-5]\d\d)(?:-([1-5]\d\d))?$/;

/**
 * Reads `KIND[:SUBJECT][,OPTION=VALUE…]`, such as `http:/healthz,interval=10s,timeout=2s`. The subject is the path of `http`, the service of `grpc`,
 * or the `namespace/name/instance` of `alias`; it cannot contain a comma. Throws a UsageError that names the flag and the rule. The server checks
 * rules that depend on the entry, such as the names of its targets.
 */
export function parseCheck(text: string): CheckInit {
  const [head = "", ...rest] = text.split(",");
  const colon = head.indexOf(":");
  const kind = colon === -1 ? head : head.slice(0, colon);
  if (!isKind(kind)) throw wrong(text, `expected ${checkForms()}, optionally followed by comma-separated options`);
  const subject = colon === -1 ? undefined : head.slice(colon + 1);
  const options = optionsOf(text, kind, rest);
  const intervalMs = durationOf(text, options, "interval", HOUR_MS);
  const timeoutMs = durationOf(text, options, "timeout", MINUTE_MS);
  return {
    target: options.get("target") ?? "",
    ...(intervalMs !== undefined && { interval: durationFromMs(intervalMs) }),
    ...(timeoutMs !== undefined && { timeout: durationFromMs(timeoutMs) }),
    failing: looksOf(text, options, "failing"),
    passing: looksOf(text, options, "passing"),
    probe: probeOf(text, { kind, subject, options }),
  };
}

interface ParsedProbe {
  readonly kind: CheckCase;
  readonly subject: string | undefined;
  readonly options: ReadonlyMap<string, string>;
}

function probeOf(text: string, { kind, subject, options }: ParsedProbe): NonNullable<CheckInit["probe"]> {
  const tls = options.has("tls");
  if (subject === "") throw wrong(text, `missing value after the colon; write ${KINDS[kind].form}`);
  switch (kind) {
    case "grpc":
      return { case: "grpc", value: { service: subject ?? "", tls } };
    case "http":
      if (subject !== undefined && !/^\/[!-~]*$/.test(subject))
        throw wrong(text, `the path ${subject} must start with / and contain only printable ASCII characters without spaces`);
      return { case: "http", value: { path: subject ?? "", tls, ...statusesOf(text, options.get("status")) } };
    case "tcp":
    case "ttl":
      if (subject !== undefined) throw wrong(text, `${kind} must not be followed by a colon and a value`);
      return { case: kind, value: {} };
    case "alias":
      return { case: "alias", value: { key: aliasOf(text, subject ?? "", options.get("kind")) } };
  }
}

function aliasOf(text: string, subject: string, kind: string | undefined) {
  const names = splitKey(subject);
  if (names === undefined)
    throw wrong(text, "expected alias:NAMESPACE/NAME/INSTANCE; for names with a slash, use a file and waymark apply");
  if (kind !== undefined && !KIND_WORDS.some((word) => word === kind))
    throw wrong(text, `kind=${kind} is not one of ${KIND_WORDS.join(", ")}`);
  return { kind: kind === undefined ? EntryKind.SERVICE : enumValue(EntryKind, kind), ...names };
}

function statusesOf(text: string, status: string | undefined): { readonly statusMin?: number; readonly statusMax?: number } {
  if (status === undefined) return {};
  const [, min, max = min] = STATUS.exec(status) ?? [];
  if (min === undefined || Number(min) > Number(max))
    throw wrong(text, `status=${status} is neither a status such as 204 nor a range such as 200-399`);
  return { statusMin: Number(min), statusMax: Number(max) };
}

function optionsOf(text: string, kind: CheckCase, given: readonly string[]): ReadonlyMap<string, string> {
  const known = KINDS[kind].options;
  const options = new Map<string, string>();
  for (const option of given) {
    const at = option.indexOf("=");
    const name = at === -1 ? option : option.slice(0, at);
    // Only `tls` has no value.
    const isWhole = name === "tls" ? at === -1 : at !== -1 && at < option.length - 1;
    if (!known.includes(name) || !isWhole)
      throw wrong(text, `${option} is not one of ${known.map((one) => (one === "tls" ? one : `${one}=…`)).join(", ")}`);
    if (options.has(name)) throw wrong(text, `${name} is given twice`);
    options.set(name, option.slice(at + 1));
  }
  return options;
}

function durationOf(text: string, options: ReadonlyMap<string, string>, name: string, maxMs: number): number | undefined {
  const written = options.get(name);
  if (written === undefined) return undefined;
  const lengthMs = parseDurationMs(written);
  if (lengthMs === undefined || lengthMs < 1000 || lengthMs > maxMs)
    throw wrong(text, `${name}=${written} is not a duration from 1s to ${durationText(maxMs)}`);
  return lengthMs;
}

/** Returns 0 if the option is absent, which selects the server's default. */
function looksOf(text: string, options: ReadonlyMap<string, string>, name: string): number {
  const written = options.get(name);
  if (written === undefined) return 0;
  const looks = /^\d{1,2}$/.test(written) ? Number(written) : 0;
  if (looks < 1 || looks > MAX_LOOKS) throw wrong(text, `${name}=${written} is not a whole number from 1 to ${MAX_LOOKS}`);
  return looks;
}

function isKind(text: string): text is CheckCase {
  return Object.hasOwn(KINDS, text);
}

function wrong(text: string, rule: string): UsageError {
  return new UsageError(`invalid --check ${text}: ${rule}`);
}

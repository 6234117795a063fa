/** The paging of the lists of a mesh: members, origins, keys, leaders and shards. */
import {
  create,
  type DescEnum,
  type DescField,
  type DescMessage,
  type DescMethodUnary,
  type JsonValue,
  type MessageShape,
  ScalarType,
  toJson,
} from "@bufbuild/protobuf";
import { TimestampSchema, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { decodePageToken, encodePageToken, pageLimit } from "../catalog/query/query.ts";
import { invalid } from "../lib/errors.ts";
import { parseTime } from "../lib/formats/rfc3339.ts";
import { fnv64, hashHex } from "../lib/hash64.ts";
import { requestCheckOf, routesOf } from "./contract.ts";
import type { CallContext, HttpRoute, RouteAnswer, RouteParameters } from "./service.ts";

export interface PageRequest {
  readonly limit: number;
  readonly pageToken: string;
}

/** Query parameters of a list. */
export const PAGE = ["limit", "page_token"] as const;

/** Identifies the filter of a list. */
export function filterHash(...filter: readonly (string | number)[]): string {
  return hashHex(fnv64(filter.join("\0")));
}

/** Returns the requested page of the rows, sorted by `placeOf`. `hash` is made by `filterHash`. */
export function paged<T>(
  rows: readonly T[],
  placeOf: (row: T) => string,
  { limit, pageToken, hash }: PageRequest & { readonly hash: string },
) {
  const after = decodePageToken(pageToken, hash);
  const rest = rows
    .map((row) => ({ row, place: placeOf(row) }))
    .filter(({ place }) => place > after)
    .toSorted((a, b) => (a.place < b.place ? -1 : 1));
  const page = rest.slice(0, pageLimit(limit));
  const last = page.at(-1);
  const nextPageToken = last === undefined || page.length === rest.length ? "" : encodePageToken(last.place, hash);
  return { page: page.map(({ row }) => row), nextPageToken };
}

/** Reads the page parameters of a GET request. */
export function pageOf({ limit = "0", page_token: pageToken = "" }: RouteParameters): PageRequest {
  if (!/^\d{1,6}$/.test(limit))
    throw invalid("limit", `must be a whole number from 0 to 999999, got ${JSON.stringify(limit.slice(0, 64))}`);
  return { limit: Number(limit), pageToken };
}

/** The fields of lists that change with time, renewals, probes and frames. */
const UNSTEADY: ReadonlySet<string> = new Set([
  "age",
  "beaconAge",
  "behindFor",
  "dueFor",
  "expiresAt",
  "exportedEqualAt",
  "framesReceived",
  "framesSent",
  "generatedAt",
  "importedEqualAt",
  "lag",
  "lastSeen",
  "renewedAt",
  "revision",
  "rtt",
]);

export function pageAnswer(page: JsonValue): RouteAnswer {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a part of a JSON value is a JSON value
  const steady = JSON.parse(JSON.stringify(page, (key, value: unknown) => (UNSTEADY.has(key) ? undefined : value))) as JsonValue;
  return { kind: "page", page, steady };
}

/** Returns a message whose fields have the values of the parameters with their names. Throws `invalid_argument`. */
export function messageIn<D extends DescMessage>(desc: D, parameters: RouteParameters): MessageShape<D> {
  const message = create(desc);
  for (const field of desc.fields) {
    const text = parameters[field.name] ?? "";
    if (text !== "") Reflect.set(message, field.localName, valueIn(field, text));
  }
  return message;
}

/** Returns a function that makes a valid request from parameters. The function throws `invalid_argument`. */
export function requestReader<I extends DescMessage>(input: I): (asked: RouteParameters) => MessageShape<I> {
  const check = requestCheckOf(input);
  return (asked) => {
    const request = messageIn(input, asked);
    check(request);
    return request;
  };
}

/** The route of a list, whose parameters are the fields of the request. `handle` answers the rpc. */
export function listRoute<I extends DescMessage, O extends DescMessage>(
  rpc: DescMethodUnary<I, O>,
  handle: (request: MessageShape<I>, context: CallContext) => MessageShape<O> | Promise<MessageShape<O>>,
): HttpRoute {
  const { input, output, localName } = rpc;
  const [path = ""] = routesOf(rpc, false);
  const requestIn = requestReader(input);
  const whole = (answer: MessageShape<O>) => pageAnswer(toJson(output, answer, { alwaysEmitImplicit: true }));
  return {
    path,
    parameters: input.fields.map(({ name }) => name),
    rpc: localName,
    answer: (asked, context) => {
      const answer = handle(requestIn(asked), context);
      return answer instanceof Promise ? answer.then(whole) : whole(answer);
    },
  };
}

const wrong = (name: string, rule: string, value: string) => invalid(name, `must be ${rule}, got ${JSON.stringify(value.slice(0, 64))}`);

/** Returns the number of an enum value. Throws `invalid_argument` with the name of the parameter. */
function enumNumber({ values }: DescEnum, word: string, name: string): number {
  const known = new Map(values.map(({ localName, number }) => [localName.toLowerCase().replaceAll("_", "-"), number]));
  known.delete("unspecified");
  const number = known.get(word);
  if (number === undefined) throw wrong(name, `one of ${[...known.keys()].join(", ")}`, word);
  return number;
}

/** The value of a parameter: a text, a boolean, a whole number, a time, an enum value, or a list of texts or enum values, separated by commas. */
function valueIn({ name, enum: words, fieldKind, scalar, message }: DescField, text: string) {
  if (fieldKind === "list") return text.split(",").map((item) => (words === undefined ? item : enumNumber(words, item, name)));
  if (words !== undefined) return enumNumber(words, text, name);
  if (scalar === ScalarType.STRING) return text;
  if (scalar === ScalarType.BOOL) {
    if (text !== "true" && text !== "false") throw wrong(name, "true or false", text);
    return text === "true";
  }
  if (message?.typeName === TimestampSchema.typeName) {
    const wallMs = parseTime(text);
    if (wallMs === undefined) throw wrong(name, "a time such as 2026-01-31T12:00:00Z", text);
    return timestampFromMs(wallMs);
  }
  const most = scalar === ScalarType.INT32 ? 6 : 16;
  if (!/^\d+$/.test(text) || text.length > most) throw wrong(name, `a whole number of at most ${most} digits`, text);
  return scalar === ScalarType.INT32 ? Number(text) : BigInt(text);
}

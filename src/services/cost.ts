/** What a call costs and which namespaces it is about: read from the proto's option `waymark.options.v1.call`, once a method. */
import { type DescMessage, type DescMethod, getOption, type Message } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { call, Cost as WireCost } from "../../gen/waymark/options/v1/options_pb.js";
import { assert } from "../lib/errors.ts";
import type { Cost } from "../policy/limits/rate-limits.ts";
import { foreignFacts } from "./foreign.ts";

/** Whether a call of the method changes nothing, whatever becomes of it. */
export function changesNothing(desc: DescMethod): boolean {
  return foreignFacts(desc) !== undefined || costOf(desc) === "read" || desc.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
}

/**
 * What a call of the method takes a token for; undefined: it is never limited. `ServerInfo` is how one finds out what is wrong. A renewal
 * is cheap, and one that is refused would end leases in the middle of a flood: the reports in it are bounded by `catalog.load_interval`
 * and by the lease's entries. Nodes among themselves have bounds of their own. Opening a watch is a read. An rpc that names no cost is a
 * mistake of ours and ends the start.
 */
export function costOf(desc: DescMethod): Cost | undefined {
  const foreign = foreignFacts(desc);
  if (foreign !== undefined) return foreign.cost;
  const { cost } = getOption(desc, call);
  assert(cost !== WireCost.UNSPECIFIED, "an rpc names no cost", { rpc: `${desc.parent.typeName}/${desc.name}` });
  return COSTS[cost];
}

const COSTS: Readonly<Record<Exclude<WireCost, WireCost.UNSPECIFIED>, Cost | undefined>> = {
  [WireCost.FREE]: undefined,
  [WireCost.READ]: "read",
  [WireCost.WRITE]: "write",
};

/** The namespaces of a request, one for each place where it says one. */
export type NamespacesOf = (request: Message) => readonly string[];

/** Those of the first of the option's paths that holds any; undefined where no field of the request holds a namespace. */
export function namespacesOf(desc: DescMethod): NamespacesOf | undefined {
  const paths = getOption(desc, call).namespaceFields.map((path) => textsAt(desc.input, path.split(".")));
  if (paths.length === 0) return undefined;
  return (request) => {
    const found: string[] = [];
    for (const read of paths) {
      read(request, found);
      if (found.length > 0) break;
    }
    return found;
  };
}

/** Reads the texts at a path that are not empty; through a list those of each item. */
function textsAt(message: DescMessage, [name, ...rest]: readonly string[]): (from: object, to: string[]) => void {
  const field = message.fields.find((each) => each.name === name);
  assert(field !== undefined, "a path of namespaces names no field", { message: message.typeName, name });
  assert((field.message === undefined) === (rest.length === 0), "a path of namespaces ends at no text", {
    message: message.typeName,
    name,
  });
  const { localName } = field;
  const inner = field.message === undefined ? undefined : textsAt(field.message, rest);
  return (from, to) => {
    const value: unknown = Reflect.get(from, localName);
    const items: readonly unknown[] = Array.isArray(value) ? value : [value];
    for (const item of items) {
      if (typeof item === "object" && item !== null) inner?.(item, to);
      else if (typeof item === "string" && item !== "") to.push(item);
    }
  };
}

/** What a request may hold, by its descriptor: the shapes of `server/` look at a request with it before the request is decoded. */
import { type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import { LIST_BOUNDS, type ListSetting } from "../../gen/waymark/request_rules.ts";

/** The node's settings for lists. */
export type ListBounds = Readonly<Record<ListSetting, number>>;

/** How the decoder reads a value, whatever wire type its tag says. */
export type Reading = "varint" | "fixed32" | "fixed64" | "bytes" | "message";

export interface FieldPlan {
  /** As in the proto. */
  readonly name: string;
  readonly shape: "single" | "list" | "map";
  /** Its place among the fields of its message. */
  readonly place: number;
  readonly reading: Reading;
  /** Most items of a list or pairs of a map; a field that stands alone has none. */
  readonly most: number;
  /** The rule about that, for a refusal. */
  readonly rule: string;
  /** Of a field that consists of messages; of a map the message of a pair. */
  readonly message: (() => MessagePlan) | undefined;
}

export interface MessagePlan {
  readonly byNumber: readonly (FieldPlan | undefined)[];
  /** By both names that JSON has. */
  readonly byName: ReadonlyMap<string, FieldPlan>;
  /** Number of fields that stand alone. */
  readonly singleCount: number;
}

const FIXED32 = new Set([ScalarType.FIXED32, ScalarType.SFIXED32, ScalarType.FLOAT]);
const FIXED64 = new Set([ScalarType.FIXED64, ScalarType.SFIXED64, ScalarType.DOUBLE]);
const BYTES = new Set([ScalarType.STRING, ScalarType.BYTES]);

/** Plans by descriptor; the messages inside are planned when they are met. */
export function planner(bounds: ListBounds): (desc: DescMessage) => MessagePlan {
  const plans = new Map<DescMessage, MessagePlan>();
  const planOf = (desc: DescMessage): MessagePlan => {
    let plan = plans.get(desc);
    if (plan === undefined) {
      plan = planFrom(desc.fields.map((field, place) => [field, { place, ...fieldPlan(field, bounds, planOf) }]));
      plans.set(desc, plan);
    }
    return plan;
  };
  return planOf;
}

function planFrom(fields: readonly (readonly [DescField, FieldPlan])[]): MessagePlan {
  const byNumber = new Map(fields.map(([{ number }, plan]) => [number, plan]));
  return {
    byNumber: Array.from({ length: 1 + Math.max(0, ...byNumber.keys()) }, (_, number) => byNumber.get(number)),
    byName: new Map(fields.flatMap(([{ name, jsonName }, plan]) => [[name, plan] as const, [jsonName, plan] as const])),
    singleCount: fields.filter(([, { shape }]) => shape === "single").length,
  };
}

function fieldPlan(field: DescField, bounds: ListBounds, planOf: (desc: DescMessage) => MessagePlan): Omit<FieldPlan, "place"> {
  const { name } = field;
  const alone = { name, shape: "single", most: 1, rule: "" } as const;
  switch (field.fieldKind) {
    case "list":
      return { name, shape: "list", ...boundOf(field, bounds), ...itemOf(field, planOf) };
    case "map": {
      const key = { ...alone, name: "key", place: 0, reading: readingOf(field.mapKey), message: undefined };
      const value = { ...alone, name: "value", place: 1, ...itemOf(field, planOf) };
      const pair = {
        byNumber: [undefined, key, value],
        byName: new Map<string, FieldPlan>(),
        singleCount: 2,
      };
      return { name, shape: "map", ...boundOf(field, bounds), reading: "message", message: () => pair };
    }
    case "scalar":
    case "enum":
    case "message":
      return { ...alone, ...itemOf(field, planOf) };
  }
}

function itemOf({ message, scalar }: DescField, planOf: (desc: DescMessage) => MessagePlan): Pick<FieldPlan, "reading" | "message"> {
  if (message !== undefined) return { reading: "message", message: () => planOf(message) };
  return { reading: scalar === undefined ? "varint" : readingOf(scalar), message: undefined };
}

function readingOf(scalar: ScalarType): Reading {
  if (BYTES.has(scalar)) return "bytes";
  if (FIXED32.has(scalar)) return "fixed32";
  return FIXED64.has(scalar) ? "fixed64" : "varint";
}

/** Lists that the contract says no bound of are those of messages that we have no rules for. */
function boundOf({ parent, name }: DescField, bounds: ListBounds): Pick<FieldPlan, "most" | "rule"> {
  const said = LIST_BOUNDS.get(`${parent.typeName}.${name}`) ?? Number.POSITIVE_INFINITY;
  if (typeof said === "number") return { most: said, rule: `has more than ${said} items` };
  const most = bounds[said];
  const setting = said.replaceAll(/(?=[A-Z])/g, "_").toLowerCase();
  return { most, rule: `has more than ${most} items (limits.${setting})` };
}

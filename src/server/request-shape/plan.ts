/**
 * What a request may hold, by its descriptor. A request is compared with this before it is decoded: a decoder takes seconds of one turn for two
 * million empty items, and the rules of the contract would refuse them only then. What is a little beyond the rules is decoded all the same, so
 * that its refusal names all faults.
 */
import { type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import { WireType } from "@bufbuild/protobuf/wire";
import { LIST_BOUNDS, type ListSetting } from "../../../gen/waymark/request_rules.ts";
import { invalid } from "../../lib/errors.ts";
import { SET_BOUNDS } from "../../policy/set/validation.ts";

/** The node's settings for lists. */
export type ListBounds = Readonly<Record<ListSetting, number>>;

export interface ListBound {
  /** Maximum number of items. */
  readonly most: number;
  /** The text of the rule for a refusal. */
  readonly rule: string;
  /** The bound that all lists of the same kind in a request share. */
  readonly shared: SharedBound | undefined;
}

interface SharedBound {
  readonly most: number;
  /** Describes the items in a refusal. */
  readonly what: string;
}

export interface FieldPlan {
  /** As in the proto. */
  readonly name: string;
  /** Its place among the fields of its message. */
  readonly place: number;
  /** How the decoder reads a value, whatever wire type its tag says. */
  readonly wire: WireType;
  readonly isMap: boolean;
  /** The bound of a list or a map. */
  readonly bound: ListBound | undefined;
  /** Of a field that consists of messages; of a map the message of a pair. */
  readonly message: MessagePlan | undefined;
}

export interface MessagePlan {
  /** The type name without its package. */
  readonly typeName: string;
  /** Whether the message has a special JSON form whose names are not its field names. */
  readonly isWellKnown: boolean;
  readonly byNumber: readonly (FieldPlan | undefined)[];
  /** By both names that JSON has. The message of a pair of a map has none. */
  readonly byName: ReadonlyMap<string, FieldPlan>;
  /** Number of fields that stand alone. */
  readonly singleCount: number;
}

/** Requests of up to so many bytes are decoded without a look. The empty items that find room in this take a few milliseconds. */
export const MAX_UNSEEN_BYTES = 16_384;

/** Decoding as many more items takes a hundredth of a second. */
const MAX_SURPLUS = 10_000;

const WINDOWS: SharedBound = { most: SET_BOUNDS.maxSetWindows, what: "cutover windows of all rules" };
const IDS: SharedBound = { most: SET_BOUNDS.maxSetIds, what: "owners and viewers of all rules" };

/** Lists that are short, but that one request may contain so often that their items need a shared bound. */
const SHARED_BOUNDS: ReadonlyMap<string, SharedBound> = new Map([
  ["waymark.policy.v1.NamespacePolicy.owners", IDS],
  ["waymark.policy.v1.NamespacePolicy.visibility", IDS],
  ["waymark.policy.v1.NamespacePolicy.visibility_tenants", IDS],
  ["waymark.policy.v1.NamespacePolicy.cutover_windows", WINDOWS],
]);

/** Counts what a request has beyond the bounds of its lists, and fields that it does not have or has already. */
export class Surplus {
  #count = 0;
  /** Number of items by shared bound. */
  readonly #totals = new Map<SharedBound, number>();

  /** Throws `invalid_argument` once there are too many fields. */
  addField(): void {
    this.#count += 1;
    if (this.#count > MAX_SURPLUS) throw invalid("request", `has more than ${MAX_SURPLUS} fields beside those of its type`);
  }

  /** Throws `invalid_argument` once there are too many items, for the list of this name that is at this path. */
  addItems(count: number, { name, bound }: FieldPlan, path: string): void {
    this.#count += count;
    if (this.#count > MAX_SURPLUS) throw invalid(path + name, bound?.rule ?? "");
  }

  /** Throws `invalid_argument` when the lists that share a bound exceed it together. */
  addShared(count: number, shared: SharedBound, field: string): void {
    const total = (this.#totals.get(shared) ?? 0) + count;
    this.#totals.set(shared, total);
    if (total > shared.most) throw invalid(field, `there are more than ${shared.most} ${shared.what}`);
  }
}

const WIRES: ReadonlyMap<ScalarType | undefined, WireType> = new Map<ScalarType | undefined, WireType>([
  [ScalarType.STRING, WireType.LengthDelimited],
  [ScalarType.BYTES, WireType.LengthDelimited],
  [ScalarType.FIXED32, WireType.Bit32],
  [ScalarType.SFIXED32, WireType.Bit32],
  [ScalarType.FLOAT, WireType.Bit32],
  [ScalarType.FIXED64, WireType.Bit64],
  [ScalarType.SFIXED64, WireType.Bit64],
  [ScalarType.DOUBLE, WireType.Bit64],
]);

/** Plans by descriptor, with those of the messages inside. */
export function planner(bounds: ListBounds): (desc: DescMessage) => MessagePlan {
  const plans = new Map<DescMessage, MessagePlan>();
  return function planOf(desc) {
    const known = plans.get(desc);
    if (known !== undefined) return known;
    const byNumber: FieldPlan[] = [];
    const byName = new Map<string, FieldPlan>();
    const singleCount = desc.fields.filter((field) => !isMany(field)).length;
    const plan = { typeName: desc.name, isWellKnown: desc.typeName.startsWith("google.protobuf."), byNumber, byName, singleCount };
    plans.set(desc, plan); // Now, since a message may be inside itself.
    for (const [place, field] of desc.fields.entries()) {
      const message = field.message === undefined ? undefined : planOf(field.message);
      const wire = message === undefined ? wireOf(field.scalar) : WireType.LengthDelimited;
      const isMap = field.fieldKind === "map";
      const own = { name: field.name, place, wire, message, isMap, bound: isMany(field) ? boundOf(field, bounds) : undefined };
      const planned = isMap ? { ...own, wire: WireType.LengthDelimited, message: pairOf(field.mapKey, own) } : own;
      byNumber[field.number] = planned;
      byName.set(field.name, planned).set(field.jsonName, planned);
    }
    return plan;
  };
}

function isMany({ fieldKind }: DescField): boolean {
  return fieldKind === "list" || fieldKind === "map";
}

/** A map is a list of messages with a key and a value. */
function pairOf(mapKey: ScalarType, value: FieldPlan): MessagePlan {
  const key = { name: "key", place: 0, wire: wireOf(mapKey), isMap: false, bound: undefined, message: undefined };
  const byNumber = [undefined, key, { ...value, name: "value", place: 1, isMap: false, bound: undefined }];
  return { typeName: "", isWellKnown: false, byNumber, byName: new Map(), singleCount: 2 };
}

function wireOf(scalar: ScalarType | undefined): WireType {
  return WIRES.get(scalar) ?? WireType.Varint;
}

/** Lists that the contract says no bound of are those of messages that we have no rules for. */
function boundOf({ parent, name }: DescField, bounds: ListBounds): ListBound {
  const path = `${parent.typeName}.${name}`;
  const shared = SHARED_BOUNDS.get(path);
  const said = LIST_BOUNDS.get(path) ?? Number.POSITIVE_INFINITY;
  if (typeof said === "number") return { most: said, rule: `has more than ${said} items`, shared };
  const most = bounds[said];
  const setting = said.replaceAll(/(?=[A-Z])/g, "_").toLowerCase();
  return { most, rule: `has more than ${most} items (limits.${setting})`, shared };
}

/**
 * The allowed contents of a request, derived from its descriptor. A request is compared with this plan before it is decoded. A decoder would block
 * the event loop for seconds on two million empty items, and only then would validation reject them. A request slightly over the limits is still
 * decoded, so that the error names all violations.
 */
import { type DescField, type DescMessage, type Message, ScalarType } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { LIST_BOUNDS, type ListSetting } from "../../../gen/waymark/request_rules.ts";
import { apart } from "../../grpc/wire/message-reader.ts";
import { invalid, WaymarkError } from "../../lib/errors.ts";
import { SET_BOUNDS } from "../../policy/set/validation.ts";

/** The node's settings for the maximum length of lists. */
export type ListBounds = Readonly<Record<ListSetting, number>>;

export interface ListBound {
  /** Maximum number of items. */
  readonly most: number;
  /** The text of the rule, for use in an error. */
  readonly rule: string;
  /** The bound that all lists of the same kind in a request share. */
  readonly shared: SharedBound | undefined;
}

interface SharedBound {
  readonly most: number;
  /** Describes the items, for use in an error. */
  readonly what: string;
}

export interface FieldShape {
  /** The field name in the proto. */
  readonly name: string;
  /** Index of the field in its message. */
  readonly place: number;
  /** The wire type with which the decoder reads a value, whatever wire type its tag has. */
  readonly wire: WireType;
  readonly isMap: boolean;
  /** The bound of a list or a map. */
  readonly bound: ListBound | undefined;
  /** The message type of the field. For a map, the message type of a pair. */
  readonly message: MessageShapePlan | undefined;
}

export interface MessageShapePlan {
  /** The type name without its package. */
  readonly typeName: string;
  /** Whether the message has a special JSON form whose names are not its field names. */
  readonly isWellKnown: boolean;
  readonly byNumber: readonly (FieldShape | undefined)[];
  /** Fields by each of the two names that JSON allows. Empty for map pairs. */
  readonly byName: ReadonlyMap<string, FieldShape>;
  /** Number of fields that are not lists or maps. */
  readonly singleCount: number;
}

/** Requests of up to this many bytes are decoded without a check. The empty items that fit into this size are decoded in a few milliseconds. */
export const MAX_UNSEEN_BYTES = 16_384;

/** This many additional items are decoded in a hundredth of a second. */
const MAX_SURPLUS = 10_000;

const WINDOWS: SharedBound = { most: SET_BOUNDS.maxSetWindows, what: "cutover windows in all rules together" };
const IDS: SharedBound = { most: SET_BOUNDS.maxSetIds, what: "owners and viewers in all rules together" };

/** Short lists that can occur many times in one request, so that their items need a shared bound. */
const SHARED_BOUNDS: ReadonlyMap<string, SharedBound> = new Map([
  ["waymark.policy.v1.NamespacePolicy.owners", IDS],
  ["waymark.policy.v1.NamespacePolicy.visibility", IDS],
  ["waymark.policy.v1.NamespacePolicy.visibility_tenants", IDS],
  ["waymark.policy.v1.NamespacePolicy.cutover_windows", WINDOWS],
]);

/** Counts the items in a request that exceed the list limits, and its unknown and repeated fields. */
export class SurplusCounter {
  #count = 0;
  /** Number of items by shared bound. */
  readonly #totals = new Map<SharedBound, number>();

  /** Throws `invalid_argument` when there are too many fields. */
  addField(): void {
    this.#count += 1;
    if (this.#count > MAX_SURPLUS) throw invalid("request", `has more than ${MAX_SURPLUS} unknown or repeated fields`);
  }

  /** Throws `invalid_argument` for the list with this name and path when there are too many items. */
  addItems(count: number, { name, bound }: FieldShape, path: string): void {
    this.#count += count;
    if (this.#count > MAX_SURPLUS) throw invalid(path + name, bound?.rule ?? "");
  }

  /** Throws `invalid_argument` when lists that share a limit together exceed it. */
  addShared(count: number, shared: SharedBound, field: string): void {
    const total = (this.#totals.get(shared) ?? 0) + count;
    this.#totals.set(shared, total);
    if (total > shared.most) throw invalid(field, `the request has more than ${shared.most} ${shared.what}`);
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

/** Returns a function that creates the plan for a descriptor, including the plans for its nested messages. Plans are cached. */
export function planner(bounds: ListBounds): (desc: DescMessage) => MessageShapePlan {
  const plans = new Map<DescMessage, MessageShapePlan>();
  return function planOf(desc) {
    const known = plans.get(desc);
    if (known !== undefined) return known;
    const byNumber: FieldShape[] = [];
    const byName = new Map<string, FieldShape>();
    const singleCount = desc.fields.filter((field) => !isMany(field)).length;
    const plan = { typeName: desc.name, isWellKnown: desc.typeName.startsWith("google.protobuf."), byNumber, byName, singleCount };
    plans.set(desc, plan); // The plan is stored before the fields are read, because a message type may contain itself.
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

/** Returns the plan for the pairs of a map. A map is encoded as a list of messages with a key and a value. */
function pairOf(mapKey: ScalarType, value: FieldShape): MessageShapePlan {
  const key = { name: "key", place: 0, wire: wireOf(mapKey), isMap: false, bound: undefined, message: undefined };
  const byNumber = [undefined, key, { ...value, name: "value", place: 1, isMap: false, bound: undefined }];
  return { typeName: "", isWellKnown: false, byNumber, byName: new Map(), singleCount: 2 };
}

function wireOf(scalar: ScalarType | undefined): WireType {
  return WIRES.get(scalar) ?? WireType.Varint;
}

/** Returns the bound of a list. A list without a limit in the API is in a message without validation rules. */
function boundOf({ parent, name }: DescField, bounds: ListBounds): ListBound {
  const path = `${parent.typeName}.${name}`;
  const shared = SHARED_BOUNDS.get(path);
  const limit = LIST_BOUNDS.get(path) ?? Number.POSITIVE_INFINITY;
  if (typeof limit === "number") return { most: limit, rule: `has more than ${limit} items`, shared };
  const most = bounds[limit];
  const setting = limit.replaceAll(/(?=[A-Z])/g, "_").toLowerCase();
  return { most, rule: `has more than ${most} items (limits.${setting})`, shared };
}

// Detects protobuf requests with far more content than allowed. Requests are read with the protobuf-es reader, in the same way as by its decoder,
// even if the bytes are invalid.

/** The maximum nesting depth of the decoder. */
const MAX_DEPTH = 100;

/** Returns an error if the request must not be decoded. The cost is O(bytes). Short requests have no cost. */
export function protobufFault(plan: MessageShapePlan, bytes: Uint8Array): WaymarkError | undefined {
  if (bytes.length <= MAX_UNSEEN_BYTES) return undefined;
  try {
    new MessageScan({ reader: new BinaryReader(bytes), surplus: new SurplusCounter() }, plan, "").read(bytes.length, 1);
    return undefined;
  } catch (thrown) {
    // Other errors come from the reader. The decoder fails at the same position and reports the error in the bytes.
    return thrown instanceof WaymarkError ? thrown : undefined;
  }
}

interface RequestBytes {
  readonly reader: BinaryReader;
  readonly surplus: SurplusCounter;
}

/** A message that is being read. */
// HOT: one object is created for each message in a request of more than a few kilobytes.
class MessageScan {
  readonly #request: RequestBytes;
  readonly #plan: MessageShapePlan;
  /** Prefix for the field names of the message. */
  readonly #path: string;
  /** Number of items in each list, by field index. */
  readonly #counts: number[] = [];
  /** Messages in singular fields, by field index. If a field occurs again, the decoder merges its value with the earlier value. */
  readonly #inside: MessageScan[] = [];
  #singleCount = 0;

  constructor(request: RequestBytes, plan: MessageShapePlan, path: string) {
    this.#request = request;
    this.#plan = plan;
    this.#path = path;
  }

  read(end: number, depth: number): void {
    checkDepth(depth);
    const { reader } = this.#request;
    while (reader.pos < end) {
      const [number, wire] = reader.tag();
      const field = this.#plan.byNumber[number];
      if (field === undefined) this.#readUnknown(number, wire, depth);
      else this.#readField(field, wire, depth);
    }
  }

  #readField(field: FieldShape, wire: WireType, depth: number): void {
    const { reader } = this.#request;
    if (field.bound === undefined) this.#addSingle();
    else if (wire === WireType.LengthDelimited && field.wire !== wire) {
      const size = reader.uint32();
      const end = reader.pos + size;
      while (reader.pos < end) {
        pass(reader, field.wire);
        this.#addItem(field);
      }
      return;
    } else this.#addItem(field);
    if (field.message === undefined) pass(reader, field.wire);
    else {
      const inside = this.#messageIn(field, field.message);
      const size = reader.uint32();
      inside.read(reader.pos + size, depth + 1);
    }
  }

  #messageIn({ name, place, bound }: FieldShape, plan: MessageShapePlan): MessageScan {
    if (bound !== undefined) return new MessageScan(this.#request, plan, `${this.#path}${name}[${(this.#counts[place] ?? 0) - 1}].`);
    return (this.#inside[place] ??= new MessageScan(this.#request, plan, `${this.#path}${name}.`));
  }

  #readUnknown(number: number, wire: WireType, depth: number): void {
    const { reader } = this.#request;
    this.#addSingle();
    if (wire !== WireType.StartGroup) {
      reader.skip(wire, number);
      return;
    }
    checkDepth(depth + 1);
    for (let [inner, innerWire] = reader.tag(); innerWire !== WireType.EndGroup; [inner, innerWire] = reader.tag())
      this.#readUnknown(inner, innerWire, depth + 1);
  }

  #addSingle(): void {
    this.#singleCount += 1;
    if (this.#singleCount > this.#plan.singleCount) this.#request.surplus.addField();
  }

  #addItem(field: FieldShape): void {
    const count = (this.#counts[field.place] ?? 0) + 1;
    this.#counts[field.place] = count;
    if (field.bound === undefined) return;
    if (count > field.bound.most) this.#request.surplus.addItems(1, field, this.#path);
    if (field.bound.shared !== undefined) this.#request.surplus.addShared(1, field.bound.shared, this.#path + field.name);
  }
}

function checkDepth(depth: number): void {
  if (depth > MAX_DEPTH) throw new RangeError("nested deeper than the decoder supports");
}

/** Skips one value. The reader's own `skip` creates a view of each value, which is slower than the rest of this check. */
function pass(reader: BinaryReader, wire: WireType): void {
  if (wire === WireType.Bit32) reader.pos += 4;
  else if (wire === WireType.Bit64) reader.pos += 8;
  else {
    const value = reader.uint32();
    if (wire === WireType.LengthDelimited) reader.pos += value;
  }
}

// A request whose bytes have arrived but are not decoded yet. The request is decoded only if the caller may make the call.

export class UndecodedRequest {
  #bytes: Uint8Array;
  readonly #decode: (bytes: Uint8Array) => Message | WaymarkError;

  constructor(bytes: Uint8Array, decode: (bytes: Uint8Array) => Message | WaymarkError) {
    this.#bytes = bytes;
    this.#decode = decode;
  }

  /** Returns the message, or the error if its bytes cannot be decoded. */
  read(): Message | WaymarkError {
    return this.#decode(this.#bytes);
  }

  /** Copies the bytes if the request will be read in a later turn, so that the whole received chunk does not stay in memory. */
  hold(): void {
    this.#bytes = apart(this.#bytes);
  }
}

/** A request, or the error if it cannot be read. */
export type SentRequest = Message | UndecodedRequest | WaymarkError;

/** Whether a request in protobuf holds far more than it may. It is read by the reader of protobuf-es and as its decoder does, whatever is wrong with the bytes. */
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { WaymarkError } from "../../lib/errors.ts";
import { type FieldPlan, MAX_UNSEEN_BYTES, type MessagePlan, Surplus } from "./plan.ts";

/** As deep as the decoder goes. */
const MAX_DEPTH = 100;

/** Why the request is not decoded. Cost: O(bytes), and none for short ones. */
export function protobufFault(plan: MessagePlan, bytes: Uint8Array): WaymarkError | undefined {
  if (bytes.length <= MAX_UNSEEN_BYTES) return undefined;
  try {
    new Message({ reader: new BinaryReader(bytes), surplus: new Surplus() }, plan, "").read(bytes.length, 1);
    return undefined;
  } catch (thrown) {
    // Anything else is the reader's complaint. The decoder reads no further than this, and says what is wrong with the bytes.
    return thrown instanceof WaymarkError ? thrown : undefined;
  }
}

interface Request {
  readonly reader: BinaryReader;
  readonly surplus: Surplus;
}

/** A message that is being read. */
// HOT: one for each message inside a request of more than a few kilobytes.
class Message {
  readonly #request: Request;
  readonly #plan: MessagePlan;
  /** Before the names of its fields. */
  readonly #path: string;
  /** Items of its lists, by the place of the list among its fields. */
  readonly #counts: number[] = [];
  /** What stands alone, by its place: the decoder merges what comes again with what it has. */
  readonly #inside: Message[] = [];
  #singleCount = 0;

  constructor(request: Request, plan: MessagePlan, path: string) {
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

  #readField(field: FieldPlan, wire: WireType, depth: number): void {
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

  #messageIn({ name, place, bound }: FieldPlan, plan: MessagePlan): Message {
    if (bound !== undefined) return new Message(this.#request, plan, `${this.#path}${name}[${(this.#counts[place] ?? 0) - 1}].`);
    return (this.#inside[place] ??= new Message(this.#request, plan, `${this.#path}${name}.`));
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

  #addItem(field: FieldPlan): void {
    const count = (this.#counts[field.place] ?? 0) + 1;
    this.#counts[field.place] = count;
    if (field.bound === undefined) return;
    if (count > field.bound.most) this.#request.surplus.addItems(1, field, this.#path);
    if (field.bound.shared !== undefined) this.#request.surplus.addShared(1, field.bound.shared, this.#path + field.name);
  }
}

function checkDepth(depth: number): void {
  if (depth > MAX_DEPTH) throw new RangeError("deeper than the decoder goes");
}

/** Passes over one value. The reader's own `skip` makes a view of each, which takes longer than all else here. */
function pass(reader: BinaryReader, wire: WireType): void {
  if (wire === WireType.Bit32) reader.pos += 4;
  else if (wire === WireType.Bit64) reader.pos += 8;
  else {
    const value = reader.uint32();
    if (wire === WireType.LengthDelimited) reader.pos += value;
  }
}

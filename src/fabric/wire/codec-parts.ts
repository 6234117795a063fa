/** What every codec of the fabric shares: bytes to protobuf messages with one kind of error, and the names of nodes in them. */
import { create, type DescMessage, fromBinary, type MessageInitShape, type MessageShape, toBinary } from "@bufbuild/protobuf";
import type { Origin as OriginMessage } from "../../../gen/waymark/fabric/v1/fabric_pb.js";
import { invalid, WaymarkError } from "../../lib/errors.ts";
import { tagOf, WIRE, WireReader } from "../../lib/protowire.ts";
import type { HeldStart, NodeRef, Speaker, Start } from "./messages.ts";
import { addressField, checkCount, idField, type MessageBounds, numberField, optionalIdField } from "./validation.ts";

/** protobuf-es, with one error for whatever it does not like; a field it does not know is skipped. */
export function parse<Desc extends DescMessage>(schema: Desc, bytes: Uint8Array): MessageShape<Desc> {
  try {
    return fromBinary(schema, bytes, { readUnknownFields: false });
  } catch (cause) {
    throw new WaymarkError("invalid_argument", `not the bytes of a ${schema.typeName}`, { cause });
  }
}

/** As `parse`, for messages with one long list: its items are counted before anything is built. */
export function parseList<Desc extends DescMessage>(
  schema: Desc,
  bytes: Uint8Array,
  list: { readonly field: number; readonly max: number },
): MessageShape<Desc> {
  const reader = new WireReader(bytes);
  const wanted = tagOf(list.field, WIRE.BYTES);
  let count = 0;
  while (!reader.isDone()) {
    const tag = reader.tag();
    if (tag === wanted) count += 1;
    reader.skip(tag);
  }
  checkCount(count, schema.fields.find((field) => field.number === list.field)?.name ?? "list", list.max);
  return parse(schema, bytes);
}

export function refOf(origin: OriginMessage | undefined, field: string, bounds: MessageBounds): NodeRef {
  if (origin === undefined) throw invalid(field, "is required");
  return {
    nodeId: idField(origin.nodeId, `${field}.node_id`, bounds),
    generation: numberField(origin.generation, `${field}.generation`),
  };
}

/** As `refOf`, with where it is at home when it says so. */
export function speakerOf(origin: OriginMessage | undefined, field: string, bounds: MessageBounds): Speaker {
  const ref = refOf(origin, field, bounds);
  const clusterId = optionalIdField(origin?.clusterId ?? "", `${field}.cluster_id`, bounds);
  const region = optionalIdField(origin?.region ?? "", `${field}.region`, bounds);
  const place = { ...(clusterId !== "" && { clusterId }), ...(region !== "" && { region }) };
  return { ...ref, ...place, ...startOf(origin ?? {}, field, bounds) };
}

/** Of a node that does not say what its start is called, nothing. */
export function startOf({ boot = "", bootBefore = "" }: Start, field: string, bounds: MessageBounds): Start {
  optionalIdField(boot, `${field}.boot`, bounds);
  optionalIdField(bootBefore, `${field}.boot_before`, bounds);
  return { ...(boot !== "" && { boot }), ...(bootBefore !== "" && { bootBefore }) };
}

export function heldStartOf(
  { heldStart }: { readonly heldStart?: HeldStart | undefined },
  bounds: MessageBounds,
): { readonly heldStart?: HeldStart } {
  if (heldStart === undefined) return {};
  const { boot, address } = heldStart;
  if (address !== "") addressField(address, "held_start.address", bounds);
  return { heldStart: { boot: idField(boot, "held_start.boot", bounds), address } };
}

export function bytesOf<Desc extends DescMessage>(schema: Desc, init: MessageInitShape<Desc>): Uint8Array {
  return toBinary(schema, create(schema, init));
}

export function originInit(ref: NodeRef) {
  return { origin: { nodeId: ref.nodeId, generation: BigInt(ref.generation) } };
}

export function speakerInit({ generation, ...from }: Speaker) {
  return { origin: { ...from, generation: BigInt(generation) } };
}

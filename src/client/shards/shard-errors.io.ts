/** The errors with which an owner rejects a call for a shard, as a server with grpc-js sends them, and how a caller recognizes them. */
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import { Metadata } from "@grpc/grpc-js";
import { ErrorInfoSchema } from "../../../gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../../gen/google/rpc/status_pb.js";
import { type Shard, ShardSchema } from "../../../gen/waymark/control/v1/shard_pb.js";
import { findMessage, unpackDetail } from "../../consumer/error-details.ts";
import { CODES } from "../../lib/errors.ts";

const DETAILS = "grpc-status-details-bin";

/** An error that a handler of grpc-js can pass to its callback. */
export type ShardCallError = Error & { readonly code: number; readonly details: string; readonly metadata: Metadata };

/**
 * Returns the error with which an owner rejects a call for a shard that it does not own. The error carries the state of the shard as the owner knows
 * it, so that `ShardClient.call` finds the new owner. A client of another protocol can create the error from the state that its server sent.
 */
export function wrongEpoch(state: MessageInitShape<typeof ShardSchema>): ShardCallError {
  const shard = create(ShardSchema, state);
  const { namespace, id, owner, epoch } = shard;
  const message = `this program accepts no new work for shard ${namespace}/${id}, whose owner at epoch ${epoch} is "${owner}"`;
  return shardCallError(CODES.FAILED_PRECONDITION, message, shard);
}

export function shardCallError(code: number, message: string, shard?: Shard): ShardCallError {
  const info = create(ErrorInfoSchema, { reason: "WRONG_EPOCH", domain: "waymark" });
  const details = shard === undefined ? [] : [anyPack(ErrorInfoSchema, info), anyPack(ShardSchema, shard)];
  const metadata = new Metadata();
  metadata.set(DETAILS, Buffer.from(toBinary(StatusSchema, create(StatusSchema, { code, message, details }))));
  return Object.assign(new Error(message), { code, details: message, metadata });
}

/** Returns the shard of a `wrongEpoch` error, as created or as received with grpc-js. Undefined for any other error. */
export function wrongEpochShard(error: unknown): Shard | undefined {
  if (!(error instanceof Error) || !hasMetadata(error)) return undefined;
  const { details = [] } = findMessage(error.metadata.get(DETAILS)[0], StatusSchema) ?? {};
  return details.map((detail) => unpackDetail(detail, ShardSchema)).find((shard) => shard !== undefined);
}

/** Whether it is an error of a call with grpc-js. A program can have its own copy of that library. */
function hasMetadata(error: Error): error is Error & { readonly metadata: { get(name: string): readonly Uint8Array[] } } {
  return "metadata" in error && error.metadata instanceof Object && "getMap" in error.metadata;
}

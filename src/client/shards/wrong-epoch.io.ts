/** The errors with which an owner rejects a call for a shard, as a server with grpc-js sends them, and how a caller recognizes them. */
import { create, toBinary } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import { Metadata } from "@grpc/grpc-js";
import { type ErrorInfo, ErrorInfoSchema } from "../../../gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../../gen/google/rpc/status_pb.js";
import { findMessage, unpackDetail } from "../../consumer/error-details.ts";
import { CODES } from "../../lib/errors.ts";
import { RequestError } from "../request-error.ts";
import { type ShardAssignment, STATUSES } from "./shard-routes.ts";

const REASON = "WRONG_EPOCH";
const DETAILS = "grpc-status-details-bin";

/** An error that a handler of grpc-js can pass to its callback. */
export interface ShardCallError extends Error {
  /** The gRPC status code. */
  readonly code: number;
  readonly details: string;
  readonly metadata: Metadata;
}

/**
 * Returns the error with which an owner rejects a call for a shard that it does not own. The error carries the shard as the owner knows it, so that
 * `call` finds the new owner. A client of another protocol can create the error from the data that its server sent.
 */
export function wrongEpoch(shard: ShardAssignment): ShardCallError {
  const { namespace, id, owner, status, epoch } = shard;
  const facts = { namespace, shard: String(id), owner, status, epoch: String(epoch) };
  const message = `this program does not accept calls for shard ${namespace}/${id}: at epoch ${epoch}, it is ${status} and its owner is "${owner}"`;
  const info = create(ErrorInfoSchema, { reason: REASON, domain: "waymark", metadata: facts });
  return callError(CODES.FAILED_PRECONDITION, message, info);
}

export function callError(code: number, message: string, info?: ErrorInfo): ShardCallError {
  const metadata = new Metadata();
  const details = info === undefined ? [] : [anyPack(ErrorInfoSchema, info)];
  metadata.set(DETAILS, Buffer.from(toBinary(StatusSchema, create(StatusSchema, { code, message, details }))));
  return Object.assign(new Error(message), { code, details: message, metadata });
}

/** Returns the shard in a `wrongEpoch` error: as created, or as received with grpc-js, Connect or this client. Undefined for any other error. */
export function wrongEpochShard(error: unknown): ShardAssignment | undefined {
  const { reason, metadata: facts = {} } = error instanceof RequestError ? error.facts : (infoOf(error) ?? {});
  const [id, epoch] = [Number(facts["shard"]), Number(facts["epoch"])];
  const status = STATUSES.find((name) => name === facts["status"]);
  const { namespace, owner } = facts;
  if (reason !== REASON || namespace === undefined || owner === undefined || status === undefined) return undefined;
  return [id, epoch].every((each) => Number.isSafeInteger(each) && each >= 0) ? { namespace, id, owner, status, epoch } : undefined;
}

function infoOf(error: unknown): ErrorInfo | undefined {
  if (!(error instanceof Error)) return undefined;
  let infos: (ErrorInfo | undefined)[] = [];
  if (hasMetadata(error)) {
    const [bytes] = error.metadata.get(DETAILS);
    const { details = [] } = findMessage(bytes instanceof Uint8Array ? bytes : undefined, StatusSchema) ?? {};
    infos = details.map((detail) => unpackDetail(detail, ErrorInfoSchema));
  } else if (hasDetails(error))
    infos = error.details.map(({ type, value }) =>
      type === ErrorInfoSchema.typeName && value instanceof Uint8Array ? findMessage(value, ErrorInfoSchema) : undefined,
    );
  return infos.find((info) => info?.domain === "waymark");
}

/** Whether it is an error of a call with grpc-js. A program can have its own copy of that library. */
function hasMetadata(error: object): error is { readonly metadata: { get(name: string): readonly unknown[] } } {
  return "metadata" in error && error.metadata instanceof Object && "getMap" in error.metadata;
}

/** Whether it is an error of a call with Connect. */
function hasDetails(error: object): error is { readonly details: readonly { readonly type?: unknown; readonly value?: unknown }[] } {
  return "details" in error && Array.isArray(error.details);
}

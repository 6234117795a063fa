/** gRPC's status trailers of a refusal. Pure. */
import { type RpcStatus, statusBytes } from "./status.ts";

/** Trailers of a refusal. `encodeURI` is gRPC's percent-encoding and more; a status message is well-formed. */
export function statusTrailers(status: RpcStatus, requestId: string): Record<string, string> {
  return {
    "grpc-status": String(status.code),
    "grpc-message": encodeURI(status.message),
    "grpc-status-details-bin": Buffer.from(statusBytes(status)).toString("base64"),
    ...(requestId === "" ? {} : { "x-request-id": requestId }),
  };
}

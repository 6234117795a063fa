/** gRPC's status trailers of a refusal. Pure. */
import { type RpcStatus, statusBytes } from "../status.ts";

/** Trailers of a refusal. */
export function statusTrailers(status: RpcStatus, requestId: string): Record<string, string> {
  const trailers = known.get(status) ?? encoded(status);
  return requestId === "" ? { ...trailers } : { ...trailers, "x-request-id": requestId };
}

/** By status: a flood is refused with the same few statuses again and again (status.ts). */
const known = new WeakMap<RpcStatus, Readonly<Record<string, string>>>();

/** `encodeURI` is gRPC's percent-encoding and more; a status message is well-formed. */
function encoded(status: RpcStatus): Readonly<Record<string, string>> {
  const trailers = {
    "grpc-status": String(status.code),
    "grpc-message": encodeURI(status.message),
    // Whoever emits it should not pad; who reads it takes both.
    "grpc-status-details-bin": Buffer.from(statusBytes(status)).toString("base64").replaceAll("=", ""),
  };
  if (status.reason === "discovery_rate_limited") known.set(status, trailers);
  return trailers;
}

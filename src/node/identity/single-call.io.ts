/** Makes one gRPC call on a connection of its own. */
import { clientLimits, TRANSPORT_LIMITS } from "../../fabric/transport/limits.ts";
import type { CallRequest, CallResult } from "../../grpc/client/client-call.ts";
import { type ByteTransport, ClientConnection } from "../../grpc/client/connection.io.ts";

/** Resolves with the status of the call, and then closes the connection. Rejects with what `onMessage` throws. */
export async function callOnce(
  socket: ByteTransport,
  { message, scheme, ...request }: CallRequest & { readonly message: Uint8Array; readonly scheme: "http" | "https" },
  onMessage: (bytes: Uint8Array) => void,
  signal?: AbortSignal,
): Promise<CallResult> {
  const connection = new ClientConnection(socket, { authority: "localhost", scheme, limits: clientLimits(TRANSPORT_LIMITS) });
  const abort = () => connection.destroy();
  signal?.addEventListener("abort", abort, { once: true });
  try {
    return await new Promise((resolve, reject) => {
      const call = connection.start(request, {
        message: (bytes) => {
          try {
            onMessage(bytes);
          } catch (error) {
            reject(error instanceof Error ? error : new Error(String(error)));
          }
        },
        closed: resolve,
      });
      call.write(message);
      call.halfClose();
      if (signal?.aborted === true) abort();
    });
  } finally {
    signal?.removeEventListener("abort", abort);
    connection.destroy();
  }
}

/** Makes one gRPC call on a connection of its own. */
import { clientLimits, TRANSPORT_LIMITS } from "../../fabric/transport/limits.ts";
import type { CallRequest, CallResult } from "../../grpc/client/client-call.ts";
import { type ByteTransport, ClientConnection } from "../../grpc/client/connection.io.ts";

/** After each message, reading pauses for this multiple of the time that its handling took, so that no server can use up this process's time. */
const REST_SHARE = 9;

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
          const startMonoMs = performance.now();
          try {
            onMessage(bytes);
          } catch (error) {
            reject(error instanceof Error ? error : new Error(String(error)));
          }
          const restMs = REST_SHARE * (performance.now() - startMonoMs);
          if (restMs < 1) return;
          call.pause();
          setTimeout(() => call.resume(), restMs).unref();
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

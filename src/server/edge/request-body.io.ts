/** Reads the complete body of a request that Connect does not read, within limits. */
import { invalid, WaymarkError } from "../../lib/errors.ts";
import { errorAnswer, type RouteResponse } from "../http-routes.ts";
import { refusal } from "../status.ts";
import { type EdgeArrival, TOO_MANY_UNFINISHED } from "./call.ts";
import { joined } from "./messages.ts";
import { quoted } from "./request.io.ts";
import type { EdgeRequest } from "./sockets.io.ts";

export interface BodyLimits {
  readonly mediaType: string;
  readonly maxBytes: number;
  /** Makes the error for a larger body from its size, such as `5000 bytes`. */
  readonly tooLarge: (size: string, maxBytes: number) => WaymarkError;
}

const STATUS = { TOO_LARGE: 413, MEDIA_TYPE: 415 } as const;

/** Returns the body, or the response to a body with another type or a larger size. Rejects if the client disconnects while it sends the body. */
export async function readBody(
  request: EdgeRequest,
  { header, budget, meter }: EdgeArrival,
  { mediaType, maxBytes, tooLarge }: BodyLimits,
): Promise<Uint8Array | RouteResponse> {
  const type = header("content-type") ?? "";
  if (type.split(";", 1)[0]?.trim().toLowerCase() !== mediaType)
    return wrongType("content-type", `${type === "" ? "is missing" : `is ${quoted(type)}`}; use ${mediaType}`);
  const coding = header("content-encoding") ?? "identity";
  if (coding !== "identity") return wrongType("content-encoding", `is ${quoted(coding)}; this path accepts no compressed bodies`);
  const length = header("content-length");
  const large = () => errorAnswer(refusal(tooLarge(`${length ?? `more than ${maxBytes}`} bytes`, maxBytes)), STATUS.TOO_LARGE);
  if (Number(length ?? 0) > maxBytes) return large();
  const pieces: Uint8Array[] = [];
  let sizeBytes = 0;
  try {
    // The connection must remain open for the response if the rest of the body is not read.
    const chunks: AsyncIterable<Uint8Array> = request.iterator({ destroyOnReturn: false });
    for await (const chunk of chunks) {
      sizeBytes += chunk.length;
      budget.usedBytes += chunk.length;
      if (meter !== undefined) meter.usefulBytes += chunk.length;
      if (sizeBytes > maxBytes) return large();
      if (budget.usedBytes > budget.maxBytes) throw new WaymarkError("quota_exceeded", TOO_MANY_UNFINISHED);
      pieces.push(chunk);
    }
  } finally {
    budget.usedBytes -= sizeBytes;
  }
  return joined(pieces);
}

function wrongType(field: string, fault: string): RouteResponse {
  return errorAnswer(refusal(invalid(field, fault)), STATUS.MEDIA_TYPE);
}

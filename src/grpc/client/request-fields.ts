/** The headers of a request (gRPC over HTTP/2, "Requests"). */
import { ACCEPTED_ENCODINGS } from "../wire/encoding.ts";
import { addFields, type HeaderBlock } from "../wire/metadata.ts";
import { formatTimeout } from "../wire/timeout.ts";
import type { CallTarget } from "./client-call.ts";

export interface RequestHead extends CallTarget {
  /** Messages may be compressed with gzip. */
  readonly sendsGzip: boolean;
  /** Answers may be compressed. */
  readonly acceptsCompressed: boolean;
}

/** The header block of a request; node:http2 adds the scheme and the authority of its connection. */
export function requestFields(head: RequestHead): HeaderBlock {
  const fields: Record<string, string | readonly string[]> = {
    ":method": "POST",
    ":path": head.path,
    te: "trailers",
    "content-type": "application/grpc+proto",
    "user-agent": "waymark",
  };
  if (head.timeoutMs !== undefined) fields["grpc-timeout"] = formatTimeout(head.timeoutMs);
  if (head.sendsGzip) fields["grpc-encoding"] = "gzip";
  if (head.acceptsCompressed) fields["grpc-accept-encoding"] = ACCEPTED_ENCODINGS;
  if (head.metadata !== undefined) addFields(fields, head.metadata);
  return fields;
}

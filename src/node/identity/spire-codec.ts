/** The messages of the SPIFFE Workload API. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { X509SVIDRequestSchema, type X509SVIDResponse, X509SVIDResponseSchema } from "../../../gen/spiffe/workload/workload_pb.js";

/** The call whose answers contain the identities of this program. Each change is another answer. */
export const FETCH_IDENTITIES = {
  path: "/SpiffeWorkloadAPI/FetchX509SVID",
  message: toBinary(X509SVIDRequestSchema, create(X509SVIDRequestSchema)),
  read: (bytes: Uint8Array): X509SVIDResponse["svids"] => fromBinary(X509SVIDResponseSchema, bytes).svids,
} as const;

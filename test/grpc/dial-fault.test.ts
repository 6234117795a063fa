import { expect, test } from "vitest";
import { dialFault } from "../../src/grpc/client/dial-fault.ts";

const REMEDIES = { notTls: "remove the CA", untrusted: "change the CA", rejected: "change the certificate" };
const NO_TLS = "the server does not speak TLS: remove the CA";
const NO_CA = "the server's certificate was not signed by a trusted CA: change the CA";

test.each([
  { says: "401D:error:0A00010B:SSL routines:tls_validate_record_header:wrong version number:../deps/openssl/x.c:80:", fault: NO_TLS },
  { says: "1:error:0A0000C6:SSL routines:tls_get_more_records:packet length too long:../deps/openssl/x.c:1:", fault: NO_TLS },
  {
    says: "unable to verify the first certificate; if the root CA is installed locally, try running Node.js with --use-system-ca",
    fault: NO_CA,
  },
  { says: "self-signed certificate in certificate chain", fault: NO_CA },
  {
    says: "405D:error:0A000412:SSL routines:ssl3_read_bytes:ssl/tls alert bad certificate:../deps/openssl/x.c:918:SSL alert number 42",
    fault: "the server rejected the TLS handshake (bad certificate): change the certificate",
  },
  {
    says: "405D:error:0A00045C:SSL routines:ssl3_read_bytes:tlsv13 alert certificate required:../deps/openssl/x.c:918:SSL alert number 116",
    fault: "the server rejected the TLS handshake (certificate required): change the certificate",
  },
  { says: "certificate has expired", fault: "certificate has expired" },
  { says: "connect ECONNREFUSED 127.0.0.1:1", fault: "connect ECONNREFUSED 127.0.0.1:1" },
])("a failed connection is reported with its remedy: $says", ({ says, fault }) => {
  expect(dialFault(says, REMEDIES)).toBe(fault);
});

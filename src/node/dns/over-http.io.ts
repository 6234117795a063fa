/** Joins the answers of the DNS gateway to the HTTP listener (DNS over HTTP, RFC 8484). */
import type { DnsAnswers } from "../../dns/server/server.io.ts";
import { freshSeconds } from "../../dns/wire/freshness.ts";
import { assert } from "../../lib/errors.ts";
import type { DnsMessages } from "../../server/edge/dns-query.io.ts";

export function dnsOverHttp(answers: DnsAnswers): DnsMessages {
  const made = (bytes: Uint8Array | undefined) => (bytes === undefined ? undefined : { bytes, freshSeconds: freshSeconds(bytes) });
  return {
    answer: (query, caller) => {
      const known = caller.isAuthenticated ? caller : undefined;
      const answer = answers.answer(query, { transport: "doh", address: caller.address, caller: known });
      if (answer instanceof Promise) return answer.then(made);
      assert(answer === undefined || !(Symbol.asyncIterator in answer), "no zone is sent over HTTP");
      return made(answer);
    },
  };
}

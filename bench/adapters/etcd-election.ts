/**
 * etcd's election recipe (`concurrency` of its Go client) as our leadership is compared with it, in a small Go program (bench/peers/etcd-election).
 *
 * Made equal: the members of etcd, the number of candidates, the time for which a session outlives its process (3 s, our default lease), the signals and
 * their random times, and the clock: each candidate prints the wall time at which it may act. Nothing of the client is changed. All candidates have all
 * endpoints.
 * Not equal, for etcd: its process does nothing but campaign, and renewals of its sessions are no writes. Not equal, for us: etcd's sessions start again
 * when etcd elects a leader, because the time that is left is not stored.
 */
import type { CandidateKind } from "../_elections.ts";

export function etcdElection(program: string, endpoints: readonly string[]): CandidateKind {
  return {
    who: "etcd, concurrency.Election",
    command: (group, name) => [program, `-endpoints=${endpoints.join(",")}`, `-election=/bench/${group}`, `-name=${name}`, "-ttl=3"],
    isStanding: ({ what }) => what === "stands",
    isLost: ({ what }) => what === "lost",
    electedMs: ({ what, atMs }) => (what === "elected" ? Number(atMs) : undefined),
  };
}

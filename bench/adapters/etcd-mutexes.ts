/**
 * A mutex of etcd for each shard (`concurrency.NewMutex` of its Go client) as our owners are compared with it, in a small Go program
 * (bench/peers/etcd-mutexes).
 *
 * Made equal: the members of etcd, the shards, the number of processes, the time for which a session outlives its process (3 s, our default lease), the
 * signals and their random times, and the clock. All processes have all endpoints. Nothing of the client is changed.
 * In favour of etcd: all mutexes of a process belong to one session. Each shard has a fixed first owner and one standby, which waits with `Lock`, so a
 * mutex has at most two keys and one watch; if all processes waited for all mutexes, each process that ends would remove its keys from all of them. The
 * standbys of a process are all other processes in equal parts, and are chosen before the process ends: no program computes a plan. Nothing balances the
 * shards of a process that returns, so the benchmark asks the standbys to give its shards back when nothing is measured.
 * Not equal, for us: etcd's sessions are leases, whose renewals are no writes.
 */
import type { OwnerKind } from "../_shard-owners.ts";

export interface MutexOptions {
  readonly endpoints: readonly string[];
  readonly shards: number;
  readonly processes: number;
}

export function etcdMutexes(program: string, { endpoints, shards, processes }: MutexOptions): OwnerKind {
  const common = [`-endpoints=${endpoints.join(",")}`, "-prefix=/bench/mutexes", `-shards=${shards}`, `-processes=${processes}`, "-ttl=3"];
  return {
    who: "etcd, concurrency.Mutex",
    command: (index) => [program, ...common, `-index=${index}`],
    leastShare: 1,
    onComplete: "stand",
    giveBack: "back",
  };
}

@nfs
Feature: Volumes on an NFS server
  Contract, section 6: a volume is a directory on an export that several nodes can share. No call ever waits in the
  kernel for the server, and a server that is away says nothing for longer than its limit.

  Scenario: A volume is made, listed and deleted without anybody knowing the server
    Given a store "shared" on an NFS server
    And a running agent
    When a create job of 16 MiB named "v1" on "shared" is sent
    Then it is answered PENDING and DONE, and nothing else
    And the export has a directory "volumes/v1" of 1000:1000 with mode 0755
    When one types "dvs ls --state {state} --json"
    Then it ends with 0
    And it prints JSON with '"name":"v1"'
    When a create job of 16 MiB named "v1" on "shared" is sent
    Then it is answered PENDING and DONE, and nothing else
    When a create job of 32 MiB named "v1" on "shared" is sent
    Then it fails with "conflict"
    When a delete job named "v1" on "shared" is sent
    Then it is answered PENDING and DONE, and nothing else
    And nothing of "v1" is on the export
    When a delete job named "v1" on "shared" is sent
    Then it is answered PENDING and DONE, and nothing else

  Scenario: A tree of 10,000 files goes, and nothing that its links lead to
    Given a store "shared" on an NFS server
    And a running agent
    When a create job of 16 MiB named "v1" on "shared" is sent
    Then it is answered PENDING and DONE, and nothing else
    Given 10000 files in 200 folders of "v1", half of them root's alone, with links that point outside
    When a delete job named "v1" on "shared" is sent
    Then it is answered PENDING and DONE, and nothing else
    And nothing of "v1" is on the export
    And what the links lead to is as it was

  Scenario: A job with a mount point says that such volumes cannot be attached yet
    Given a store "shared" on an NFS server
    And a running agent
    When a create job of 16 MiB for "here" is sent with:
      | store | shared |
      | name  | v1     |
    Then it fails with "unsupported"
    And its reason names "attached"
    And nothing of "v1" is on the export

  Scenario Outline: A server that is not there is named within the limit, and the other stores work
    Given a store "shared" at "<url>"
    And a running agent
    When a create job of 16 MiB named "v1" on "shared" is sent
    Then it fails within 4 s with "store-unavailable"
    And its reason names "shared" and "<server>"
    And its reason names the step "reach the server"
    Given a volume of 16 MiB at "local"
    Then a volume is attached at "local"
    When a delete job for "local" is sent
    Then it is answered PENDING and DONE, and nothing else

    Examples:
      | url                                                        | server               |
      | nfs://127.0.0.1:1/v?mountport=1                            | 127.0.0.1            |
      | nfs://no-such-host.invalid/v                               | no-such-host.invalid |
      | nfs://{broker}/v?mountport={broker port}                   | 127.0.0.1            |
      | nfs://127.0.0.1:{dropping port}/v?mountport={dropping port} | 127.0.0.1            |

  Scenario: A server that answers nothing holds up nothing else, and is used when it answers again
    Given a store "shared" on an NFS server
    And a running agent
    When a create job of 16 MiB named "v1" on "shared" is sent
    Then it is answered PENDING and DONE, and nothing else
    When the NFS server answers nothing any more
    And a create job of 16 MiB named "v2" on "shared" is sent
    And a create job of 16 MiB for "local" is sent
    Then the last is DONE within 2 s
    And the one before fails within 4 s with "store-unavailable"
    When one types "dvs ls --state {state}"
    Then it ends with 0
    And it prints "shared/v1"
    And it prints "unavailable"
    When the NFS server answers again
    And a create job of 16 MiB named "v3" on "shared" is sent
    Then it is DONE in the end
    And nothing of "v2" is on the export

  Scenario: An agent starts while the server is away, uses it when it comes, and keeps its names
    Given a store "shared" on an NFS server
    And the NFS server is dead
    And a running agent
    When a create job of 16 MiB named "v1" on "shared" is sent
    Then it fails within 4 s with "store-unavailable"
    When the NFS server lives again
    And a create job of 16 MiB named "v1" on "shared" is sent
    Then it is answered PENDING and DONE, and nothing else
    When the NFS server dies
    And a create job of 16 MiB for "local" is sent with:
      | name | v1 |
    Then it fails with "store-unavailable"
    And its reason names "v1" and "the store does not answer"
    And its failure has a reason and a hint
    And no volume is attached at "local"
    When the agent is stopped
    And the agent starts
    And a create job of 16 MiB for "local" is sent with:
      | name | v1 |
    Then it fails with "store-unavailable"
    And its reason names "v1" and "the store does not answer"
    And no volume is attached at "local"

  Scenario: An export that may only be read gives what it has
    Given a store "shared" on an NFS server that exports read-only
    And the export has the volume "old" of the earlier implementation
    And a running agent
    When one types "dvs inspect shared/old --state {state} --json"
    Then it ends with 0
    And it prints JSON with '"size_bytes":2147483648'
    When a create job of 16 MiB named "v1" on "shared" is sent
    Then it fails with "unsupported"
    And its reason names "read-only"
    When a delete job named "old" on "shared" is sent
    Then it fails with "unsupported"
    And the export has a directory "volumes/old" of 0:0 with mode 0755

  Scenario Outline: A name that is none is refused
    Given a store "shared" on an NFS server
    And a running agent
    When it publishes to create:
      """
      {"job":"1","sipId":"{sender}","store":"shared","name":"<name>","volumeSize":"16"}
      """
    Then it is refused with "bad-request"
    And the export is untouched

    Examples:
      | name             |
      | ..               |
      | ../x             |
      | a/b              |
      |                  |
      | {256 characters} |
      | a{NUL}b          |
      | a{LF}b           |
      | .                |
      | -rf              |

  Scenario: What a dead node has left is shown, and an operator takes it away
    Given a store "shared" on an NFS server
    And a running agent
    When a create job of 16 MiB named "v1" on "shared" is sent
    Then it is answered PENDING and DONE, and nothing else
    Given the node "0123456789abcdef0123456789abcdef" called "gone" has "v1" attached
    When a delete job named "v1" on "shared" is sent
    Then it fails with "in-use"
    And its reason names "gone" and "0123456789abcdef0123456789abcdef"
    And the export has a directory "volumes/v1" of 1000:1000 with mode 0755
    When one types "dvs inspect shared/v1 --state {state}"
    Then it prints "gone"
    When one types "dvs release shared/v1 0123456789abcdef0123456789abcdef --state {state}"
    Then it ends with 0
    And it prints "gone"
    When a delete job named "v1" on "shared" is sent
    Then it is answered PENDING and DONE, and nothing else
    And nothing of "v1" is on the export

  Scenario: Two nodes are answered while the server dies again and again, and each name is there as was answered
    Given a store "shared" on an NFS server
    And a running agent
    And an agent on another node
    When 100 jobs that create and delete are sent to each of the two while the server dies again and again
    Then each of them is answered
    When both agents are started anew
    Then each name is whole on the export or not there, as was answered

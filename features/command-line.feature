Feature: The command line
  Contract, section 9: the same jobs for people, and what the agent knows of its volumes.

  Scenario: Create, list, inspect and delete
    Given a running agent
    When one types "dvs create -b {broker} --node {node} --mount {root}/typed --size 16M"
    Then it ends with 0
    And a volume is attached at "typed"
    When one types "dvs ls --state {state}"
    Then it ends with 0
    And it prints "{root}/typed"
    When one types "dvs delete -b {broker} --node {node} --mount {root}/typed"
    Then it ends with 0
    And nothing is left

  Scenario: The same as JSON
    Given a running agent
    When one types "dvs create -b {broker} --node {node} --mount {root}/typed --size 16M --name typed --json"
    Then it ends with 0
    And it prints JSON with "DONE"
    When one types "dvs ls --state {state} --json"
    Then it ends with 0
    And it prints JSON with "typed"
    When one types "dvs inspect typed --state {state} --json"
    Then it ends with 0
    And it prints JSON with "{root}/typed"
    When one types "dvs inspect {store}/typed --state {state} --json"
    Then it ends with 0
    And it prints JSON with "{root}/typed"
    When one types "dvs delete -b {broker} --node {node} --mount {root}/typed --json"
    Then it ends with 0
    And it prints JSON with "DONE"
    And nothing is left

  Scenario: A job that fails ends with 1, its code, reason and hint on standard error
    Given a running agent
    And a file "file"
    When one types "dvs create -b {broker} --node {node} --mount {root}/file --size 16M"
    Then it ends with 1
    And it complains with "conflict"
    And it complains with "{root}/file"

  Scenario: No answer in time ends with 2
    When one types "dvs create -b {broker} --node nobody-is-there --mount {root}/late --size 16M --timeout 1"
    Then it ends with 2

  Scenario Outline: What is typed wrong ends with 64: <typed>
    When one types "<typed>"
    Then it ends with 64
    And it prints nothing on standard output

    Examples:
      | typed                                                                        |
      | dvs create -b {broker} --node n --mount {root}/a                             |
      | dvs create -b {broker} --node n --mount {root}/a --size 0                    |
      | dvs create -b {broker} --node n --mount {root}/a --size 1.5G                 |
      | dvs create -b {broker} --node n --mount relative --size 16M                  |
      | dvs delete -b {broker} --node n                                              |
      | dvs --no-such-flag                                                           |
      | dvs no-such-command                                                          |

  Scenario Outline: What is not reachable ends with 69: <typed>
    When one types "<typed>"
    Then it ends with 69

    Examples:
      | typed                                                                        |
      | dvs ls --state {state}                                                       |
      | dvs inspect something --state {state}                                        |

  Scenario: An inspected volume that does not exist
    Given a running agent
    When one types "dvs inspect nothing --state {state}"
    Then it ends with 1
    And it complains with "not-found"

  Scenario: An unknown key in the configuration is refused with the nearest known one
    Given the configuration:
      """
      brokr = "127.0.0.1"
      """
    When one types "dvs --config {config} --state {state}"
    Then it ends with 78
    And it complains with "brokr"
    And it complains with "broker"

  Scenario: All problems of a configuration are told at once
    Given the configuration:
      """
      broker = 5
      node = "sip"
      stores = ["loop"]
      mount_roots = ["relative"]

      [limits]
      workers = 0
      """
    When one types "dvs --config {config} --state {state}"
    Then it ends with 78
    And it complains with "broker"
    And it complains with "sip"
    And it complains with "NAME=URL"
    And it complains with "relative"
    And it complains with "workers"

  Scenario: A store of an unknown kind is refused
    When one types "dvs -b {broker} --state {state} --store disk=floppy:///a"
    Then it ends with 78
    And it complains with "floppy"

  Scenario: Flags win over the environment, and the environment over the file
    Given the configuration:
      """
      broker = "127.0.0.1:1"
      node = "from-the-file"
      """
    And an agent with that configuration, and its broker in the environment
    When the agent starts
    And a create job of 16 MiB for "a" is sent
    Then it is answered PENDING and DONE, and nothing else

  Scenario: As a daemon
    When the agent starts as a daemon
    Then the retained presence is online, with a version and the store of this run
    When a create job of 16 MiB for "daemon" is sent
    Then it is answered PENDING and DONE, and nothing else
    And a volume is attached at "daemon"
    When the daemon is told to stop
    Then the retained presence is offline
    And a volume is attached at "daemon"

  Scenario: What would not work is told before it does not
    Given the configuration:
      """
      brokr = "127.0.0.1"
      """
    When one types "dvs check --config {config} --state {state}"
    Then it ends with 78
    And it complains with "broker"

  Scenario: What would work is told too
    When one types "dvs check -b {broker} --state {state} --store {store}={url} --mount-root {root}"
    Then it ends with 0

  Scenario: A check as JSON
    When one types "dvs check -b {broker} --state {state} --store {store}={url} --mount-root {root} --json"
    Then it ends with 0
    And it prints JSON with "{store}"

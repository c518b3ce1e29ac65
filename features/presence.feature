Feature: The agent says whether it is there
  Contract, section 2: `docker/<node>/agent`, retained.

  Scenario: Online with its version and its stores
    When the agent starts
    Then the retained presence is online, with a version and the store of this run

  Scenario: Offline after it was stopped
    Given a running agent
    When the agent is stopped
    Then the retained presence is offline

  Scenario: Offline by its last will after it was killed
    Given a running agent
    When the agent is killed
    Then the retained presence is offline

  Scenario: Online again
    Given a running agent
    When the agent is killed
    And the agent starts
    Then the retained presence is online, with a version and the store of this run
